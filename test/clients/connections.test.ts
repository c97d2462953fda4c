import { spawn } from 'node:child_process'
import { beforeAll, describe, expect, it } from 'vitest'
import { createClient } from '../../src/client/client.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { type Program, startProgram } from '../fixtures/program.ts'
import { startProxy, type TcpProxy } from '../fixtures/tcp-proxy.ts'
import { LANGUAGES } from './languages.ts'

let server: Program
let proxy: TcpProxy

beforeAll(async () => {
  // A worker that was killed in the test before may still get the first task: it comes back when its lease ends.
  server = await startProgram({ flags: ['--lease', '2s'] })
  proxy = await startProxy(Number(new URL(server.url).port))
})

/** The connections that were opened meanwhile. */
async function opened(work: () => Promise<unknown>): Promise<number> {
  const before = proxy.accepted
  await work()
  return proxy.accepted - before
}

/** A connection that was begun while another one became free is kept too, so there can be two for each call. */
const boundOf = (calls: number) => 2 * calls

describe.each(Object.entries(LANGUAGES))('a worker in %s', (_language, { command, env, build }) => {
  const CONCURRENCY = 3

  it('reuses its connections, and replaces those that the server ends', { timeout: 120_000 }, async () => {
    build()
    const url = `http://127.0.0.1:${proxy.port}`
    const [program, ...args] = command
    const run = async (count: number) => {
      const ids = await Promise.all(Array.from({ length: count }, (_, index) => server.submit('echo', index)))
      for (const id of ids) await server.until(id, { status: 'success', attempts: 1 })
    }
    const started = await opened(async () => {
      const options = { env: { ...process.env, ...env, XQUEUE_SERVER: url }, stdio: 'ignore' } as const
      const worker = endAtExit(spawn(program, args, options))
      closeAfterwards(() => worker.kill('SIGKILL'))
      await server.untilHandled('echo')
      await run(200)
    })
    // Without reuse, each of the 200 tasks has a connection of its own. Beside the calls of its tasks, a worker waits
    // for more; that of TypeScript also waits for requests to cancel.
    expect(started).toBeLessThanOrEqual(boundOf(CONCURRENCY + 2))
    const replaced = await opened(async () => {
      proxy.hangUp()
      await run(100)
    })
    expect(replaced).toBeLessThanOrEqual(boundOf(CONCURRENCY + 2))
  })
})

it('the TypeScript client reuses its connections, and replaces those that the server ends', async () => {
  const client = createClient(`http://127.0.0.1:${proxy.port}`)
  const CALLS = 20
  const id = await server.submit('echo')
  const read = () => Promise.all(Array.from({ length: CALLS }, () => client.get(id)))
  const started = await opened(async () => {
    for (let round = 0; round < 20; round++) await read()
  })
  expect(started).toBeLessThanOrEqual(boundOf(CALLS))
  const replaced = await opened(async () => {
    const reading = read()
    proxy.hangUp()
    await reading
    for (let call = 0; call < 200; call++) await client.get(id)
  })
  expect(replaced).toBeLessThanOrEqual(boundOf(CALLS))
})
