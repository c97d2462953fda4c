import { once } from 'node:events'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { HttpProxy, type ProxiedCall } from '../fixtures/http-proxy.ts'
import { type Program, startProgram } from '../fixtures/program.ts'
import { LANGUAGES, startWorker } from './languages.ts'

const TURN = '/api/v1/tasks/turn'
const HANDLERS = '/api/v1/handlers'

describe.each(Object.entries(LANGUAGES))('the turns of a worker in %s', (name, language) => {
  let server: Program
  let between: HttpProxy
  let end: () => Promise<unknown>

  beforeAll(async () => {
    language.build()
    server = await startProgram({ flags: ['--lease', '2s'] })
  }, 120_000)
  afterAll(() => server.stop())
  afterEach(async () => {
    await end()
    between.stop()
  })

  async function start(handle: (call: ProxiedCall) => void = (call) => call.forward()): Promise<void> {
    between = await HttpProxy.start(server.url)
    between.handle = handle
    const worker = startWorker(language, between.url)
    end = () => {
      worker.kill('SIGKILL')
      return once(worker, 'exit')
    }
    await server.untilHandled('echo')
  }
  const submit = (count: number) =>
    Promise.all(Array.from({ length: count }, (_, index) => server.submit('echo', index)))
  const ended = async (ids: readonly string[]) => {
    for (const id of ids) await server.until(id, { status: 'success', attempts: 1 })
  }
  const reports = () => between.calls.filter(({ path, body }) => path === TURN && body.includes('"outcomes"'))

  it('report outcomes together, and claim tasks with the same call', async () => {
    await start()
    await server.call('POST', '/types/echo/pause')
    const ids = await submit(300)
    await server.call('POST', '/types/echo/resume')
    await ended(ids)
    // Three tasks at once, so 100 reports would do.
    expect(reports().length).toBeLessThan(250)
    expect(between.calls.length).toBeLessThan(400)
    expect(between.calls.every(({ path }) => path === TURN || path === HANDLERS)).toBe(true)
  })

  it.each(['call', 'answer'] as const)('report again after the %s was lost', async (moment) => {
    await start()
    let lost = 0
    between.handle = (call) => {
      if (call.body.includes('"outcomes"') && lost < 2) {
        lost += 1
        call.lose(moment)
      } else call.forward()
    }
    const ids = await submit(20)
    await ended(ids)
    expect(lost).toBe(2)
    // A lost answer may have had leases: their tasks come back when they expire, and none is lost.
    await ended(await submit(5))
  })

  it('send the lines of the log again after the call was lost', async () => {
    await start()
    let lost = 0
    between.handle = (call) => {
      if (call.body.includes('"logs"') && lost < 2) {
        lost += 1
        call.lose('call')
      } else call.forward()
    }
    const id = await server.submit('talks', 0)
    await server.until(id, { status: 'success' })
    expect(lost).toBe(2)
    const { lines } = (await server.call('GET', `/tasks/${id}/logs`)).body
    expect(lines.map(({ message }: { message: string }) => message)).toEqual(['begun', 'odd', 'done'])
  })

  // The TypeScript worker came after turns.
  if (name === 'typescript') return

  it('are single calls to a server that does not support turns', async () => {
    await start((call) => ([TURN, HANDLERS].includes(call.path) ? call.refuse(404) : call.forward()))
    await ended(await submit(20))
    const never = await server.submit('never')
    const big = await server.submit('big')
    const steps = await server.submit('steps', { steps: 400 })
    await server.until(never, { status: 'failed', error: 'this cannot work' })
    await server.until(big, { status: 'failed', error: expect.stringMatching(/result\.id.*as a string/) })
    await server.until(steps, { status: 'processing', progress: { step: expect.any(Number) } })
    expect((await server.call('DELETE', `/tasks/${steps}`)).status).toBe(202)
    await server.until(steps, { status: 'canceled' })
    const verbs = new Set(between.calls.map(({ path }) => path.split('/').at(-1)))
    expect([...verbs].sort()).toEqual(['complete', 'consume', 'fail', 'handlers', 'heartbeat', 'turn'])
  })
})
