import { startServer } from '../fixtures/server.ts'

/** `--expose-gc soak-process.ts '<flags as JSON>'`: a whole process that reports its heap after a collection. */
const [, , flags] = process.argv
const app = await startServer(JSON.parse(flags!))
process.on('message', async () => {
  // What a first collection has finalized, the second one frees.
  for (let round = 0; round < 3; round++) {
    globalThis.gc!()
    await new Promise((resolve) => setImmediate(resolve))
  }
  app.log.length = 0
  const { heapUsed, external } = process.memoryUsage()
  process.send!(heapUsed + external)
})
process.send!({ address: app.url, mqtt: await app.mqttUrl() })
