import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { z } from 'zod'
import { DoNotRetry, defineHandlers, type HandlerContext } from '../../src/index.ts'

async function lengths(_task: unknown, { predecessors, predecessor }: HandlerContext) {
  const omitted = predecessors.filter((one) => one.omitted).length
  const whole = await Promise.all([...predecessors, ...predecessors].map(({ id }) => predecessor(id)))
  const stranger = await predecessor('none').catch((error: Error) => error.message)
  return { omitted, stranger, lengths: whole.map(({ result }) => String(result).length) }
}

/** The port is open as long as the thread lives. */
async function listen(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** Loaded by threads of their own, see worker.test.ts. */
export default defineHandlers({
  report: {
    isolate: true,
    payload: z.object({ n: z.number() }),
    run: async (task, { progress, attempt, log }) => {
      log.info({ n: task.payload.n }, 'counting')
      progress({ n: task.payload.n })
      return { id: task.id, attempt, doubled: task.payload.n * 2 }
    },
  },
  block: {
    isolate: true,
    run: () => {
      for (;;);
    },
  },
  ignore: {
    isolate: true,
    run: async (_task, { progress }) => {
      progress({ port: await listen() })
      return new Promise<never>(() => undefined)
    },
  },
  leave_later: {
    isolate: true,
    run: async () => {
      const port = await listen()
      setTimeout(() => process.exit(0), 10)
      return { port }
    },
  },
  heed: {
    isolate: true,
    run: (_task, { signal }) =>
      new Promise<never>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  },
  join: {
    isolate: true,
    run: (_task, { predecessors }) => predecessors.map(({ type, status, result }) => ({ type, status, result })),
  },
  large: { run: () => 'x'.repeat(600_000) },
  lengths: { isolate: true, run: lengths },
  lengths_here: { run: lengths },
  leave: { isolate: true, run: () => process.exit(7) },
  stray: {
    isolate: true,
    run: () =>
      new Promise<never>(() => {
        setTimeout(() => {
          throw new Error('stray')
        })
      }),
  },
  refuse: {
    isolate: true,
    run: () => {
      throw new DoNotRetry('never')
    },
  },
  uncloneable: { isolate: true, run: () => () => 1 },
})
