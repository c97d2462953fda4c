import { beforeAll, expect, it, onTestFinished, vi } from 'vitest'
import { changesJson } from '../../src/client/event-stream.ts'
import { createClient } from '../../src/index.ts'
import { MACHINE_TIME } from '../../src/task/time.ts'
import { HttpProxy, type ProxiedCall } from '../fixtures/http-proxy.ts'
import { type Program, startProgram } from '../fixtures/program.ts'

/** In a process of its own, so that the pauses in this one are those of the client. */
let server: Program
beforeAll(async () => {
  server = await startProgram()
  await server.post('/handlers', { handlers: [{ type: 'any' }] })
})

/** The changes of a server, their connection, and what the client does, with pauses that end by `pausing`. */
async function follow(pausing: (end: () => void) => void, signal?: AbortSignal) {
  const steps: string[] = []
  let connection: ProxiedCall | undefined
  const between = await HttpProxy.start(server.url)
  onTestFinished(() => between.stop())
  between.handle = (call) => {
    connection = call
    call.forward()
  }
  vi.spyOn(MACHINE_TIME, 'after').mockImplementation((_ms, end) => {
    steps.push('pauses')
    pausing(end)
    return () => undefined
  })
  onTestFinished(() => void vi.restoreAllMocks())
  const opened = Promise.withResolvers<void>()
  const calling: typeof fetch = (...asked) => {
    steps.push('calls')
    return fetch(...asked)
  }
  const stream = changesJson({ url: between.url, key: null, fetch: calling }, {}, signal, opened.resolve)
  const next = stream.next()
  await opened.promise
  return { next, steps, lose: () => connection!.lose('call') }
}

it('pauses before it connects again, and then receives what it has missed', async () => {
  const missed = Promise.withResolvers<string>()
  const submit = async () => missed.resolve((await createClient(server.url).submit('any', null)).id)
  const { next, steps, lose } = await follow((end) => {
    void submit().then(() => {
      steps.push('goes on')
      end()
    })
  })
  lose()
  const { value } = await next
  expect(value).toMatchObject({ task_id: await missed.promise, status: 'pending' })
  expect(steps).toEqual(['calls', 'pauses', 'goes on', 'calls'])
})

it('ends during a pause when its signal aborts', async () => {
  const stop = new AbortController()
  const { next, steps, lose } = await follow(() => setImmediate(() => stop.abort()), stop.signal)
  lose()
  expect(await next).toEqual({ done: true, value: undefined })
  expect(steps).toEqual(['calls', 'pauses'])
})

it('ends without a pause when its signal aborts', async () => {
  const stop = new AbortController()
  const { next, steps } = await follow((end) => setImmediate(end), stop.signal)
  stop.abort()
  expect(await next).toEqual({ done: true, value: undefined })
  expect(steps).toEqual(['calls'])
})
