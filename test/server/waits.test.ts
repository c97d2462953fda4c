import { once } from 'node:events'
import { connect } from 'node:net'
import { pino } from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import type { TaskJson } from '../../src/task/task-json.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'
import {
  openTestQueue,
  type QueueServer,
  type QueueServerOptions,
  serveQueue,
  startServer,
} from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 100, startedAt: 0 }
const handlers = { t: { run: () => null } }
const NONE = '0193a3c1-7c00-7000-8000-000000000001'

let redis: RunningRedis
let kafka: RunningKafka
beforeAll(async () => {
  ;[redis, kafka] = await Promise.all([startRedis(), startKafka()])
})
afterAll(() => Promise.all([redis.stop(), kafka.stop()]))

let queue: Queue
let server: QueueServer
let count = 0

function urlOf(store: string): string | undefined {
  count += 1
  const state = `${redis.url}?prefix=waits-${count}`
  if (store === 'Kafka') return `kafka://${kafka.address}?partitions=1&prefix=waits-${count}&state=${state}`
  return store === 'Redis' ? state : undefined
}

async function serve(options: QueueServerOptions = {}, its = queue) {
  server = await serveQueue(its, { handlers, ...options })
}

/** The same queue, which reads tasks in full only while the gate is open. */
function gated() {
  let [asked, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const get: Queue['get'] = async (ids, options) => {
    if (options?.bare) return queue.get(ids, options)
    asked.resolve()
    await gate.promise
    return queue.get(ids)
  }
  const slow = new Proxy(queue, {
    get: (_, name) => {
      const verb = name === 'get' ? get : queue[name as keyof Queue]
      return typeof verb === 'function' ? (verb as () => unknown).bind(queue) : verb
    },
  })
  const close = () => {
    asked = Promise.withResolvers()
    gate = Promise.withResolvers()
  }
  return { slow, asked: () => asked.promise, open: () => gate.resolve(), close }
}

const submit = async (count = 1) =>
  (await queue.submit(Array.from({ length: count }, () => completeSpec({ type: 't' })))).map(({ task }) => task.id)

/** Ends the next tasks. */
async function work(count: number, result: string | null = 'done'): Promise<void> {
  const { leases } = await queue.turn({ worker: WORKER, want: count })
  expect(leases).toHaveLength(count)
  const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result } as const }))
  await queue.turn({ worker: WORKER, want: 0, outcomes })
}

const linesIn = (text: string) =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as TaskJson)

async function waitFor(ids: readonly string[], wait: number | string = 60) {
  const { status, headers, body } = await server.post('/tasks/wait', { ids, wait })
  expect({ status, type: headers.get('content-type') }).toEqual({ status: 200, type: 'text/plain; charset=utf-8' })
  return linesIn(body)
}

/** A waiting call whose lines are read one by one. */
async function waiting(ids: readonly string[], wait = 60) {
  const end = new AbortController()
  closeAfterwards(() => end.abort())
  const headers = { 'Content-Type': 'application/json' }
  const sent = { method: 'POST', headers, body: JSON.stringify({ ids, wait }), signal: end.signal }
  const answer = fetch(`${server.url}/api/v1/tasks/wait`, sent)
  answer.catch(() => undefined)
  let text = ''
  const line = async () => {
    const reader = (await answer).body!.getReader()
    while (!text.trimStart().includes('\n')) text += new TextDecoder().decode((await reader.read()).value)
    reader.releaseLock()
    text = text.trimStart()
    const at = text.indexOf('\n') + 1
    const [first] = linesIn(text.slice(0, at))
    text = text.slice(at)
    return first!
  }
  /** Waits until the call does. */
  const begun = async () => {
    const reader = (await answer).body!.getReader()
    text += new TextDecoder().decode((await reader.read()).value)
    reader.releaseLock()
  }
  const isOver = async () => text === '' && (await (await answer).body!.getReader().read()).done
  return { begun, line, isOver, leave: () => end.abort() }
}

const clientsOf = () =>
  new Promise<number>((resolve) => server.fastify.server.getConnections((_, count) => resolve(count)))

describe.each(['SQLite', 'Redis', 'Kafka'])('waiting for tasks, on %s', (store) => {
  beforeEach(async () => {
    queue = await openTestQueue(urlOf(store))
  })

  it('answers with each task as soon as it has ended, and ends with the last one', async () => {
    await serve()
    const [first, second] = await submit(2)
    const { line, isOver } = await waiting([first!, second!])
    await work(1)
    expect(await line()).toMatchObject({ id: first, status: 'success', result: 'done' })
    await queue.cancel({ ids: [second!] })
    expect(await line()).toMatchObject({ id: second, status: 'canceled', result: null })
    expect(await isOver()).toBe(true)
  })

  it('answers at once for tasks that have ended and for unknown ones, each once', async () => {
    await serve()
    const ids = await submit(150)
    await work(100)
    await work(50)
    const lines = await waitFor([...ids, NONE, 'x', ids[0]!])
    const ended = lines.filter(({ status }) => status === 'success')
    expect(ended.map(({ id }) => id).sort()).toEqual(ids.toSorted())
    expect(lines.filter(({ status }) => status === null)).toEqual([
      { id: NONE, status: null },
      { id: 'x', status: null },
    ])
    expect(lines).toHaveLength(152)
  })

  it('ends without a line for a task that has not ended in time', async () => {
    await serve()
    const [ended, open] = await submit(2)
    await work(1)
    expect((await waitFor([open!, ended!], '200ms')).map(({ id }) => id)).toEqual([ended])
    expect(await waitFor([open!], 0)).toEqual([])
  })

  it('reports tasks that are not kept, also many with long results', async () => {
    await serve({ handlers: { t: { run: () => null, retention: { success: 0 } } } })
    const ids = await submit(60)
    const { begun, line } = await waiting(ids)
    await begun()
    await work(60, 'x'.repeat(60_000))
    while ((await queue.sweep(100)).more);
    const lines: TaskJson[] = []
    while (lines.length < ids.length) lines.push(await line())
    expect(lines.map(({ id }) => id).sort()).toEqual(ids.toSorted())
    expect(lines.every(({ status, result }) => status === 'success' && (result as string).length === 60_000)).toBe(true)
  })

  it('goes on with a task that runs again before its end is read', async () => {
    const { slow, asked, open } = gated()
    await serve({}, slow)
    const [id] = await submit()
    const { line } = await waiting([id!])
    await vi.waitFor(async () => {
      await queue.cancel({ ids: [id!] })
      await asked()
    })
    await queue.retry({ ids: [id!] })
    open()
    await work(1)
    expect(await line()).toMatchObject({ id, status: 'success' })
  })

  it('reports a task that is gone when its end is read, by what its event said', async () => {
    const { slow, asked, open } = gated()
    await serve({}, slow)
    const [id, other] = await submit(2)
    const { line } = await waiting([id!, other!])
    await queue.cancel({ ids: [other!] })
    await asked()
    await work(1, 'short-lived')
    const after = (await queue.events({ after: null, max: 1 })).last
    await queue.erase([id!])
    expect(after).not.toBe('')
    open()
    const lines = [await line(), await line()].sort((a, b) => (a.id === id ? -1 : b.id === id ? 1 : 0))
    expect(lines[0]).toMatchObject({ id, type: 't', status: 'success', result: 'short-lived', attempts: 1 })
    expect(lines[0]!.completed_at).toBe(lines[0]!.updated_at)
  })
})

describe('waiting for tasks', () => {
  beforeEach(async () => {
    queue = await openTestQueue()
  })

  it('reads the events once for all calls, and no more after the last one', async () => {
    const events = vi.spyOn(queue, 'events')
    await serve()
    const [id] = await submit()
    const calls = await Promise.all([waiting([id!]), waiting([id!]), waiting([id!])])
    await vi.waitFor(() => expect(events).toHaveBeenCalledTimes(2)) // The position, and what follows it.
    await work(1)
    expect(await Promise.all(calls.map(async ({ line }) => (await line()).id))).toEqual([id, id, id])
    const before = events.mock.calls.length
    await work(await submit(3).then(({ length }) => length))
    expect(events.mock.calls.length).toBe(before)
    expect(events.mock.calls.every(([{ signal }]) => signal === undefined || signal.aborted)).toBe(true)
  })

  it.each([
    ['no tasks', 'ids', { ids: [] }],
    ['1,001 tasks', 'ids', { ids: Array.from({ length: 1_001 }, () => 'x') }],
    ['61 seconds', 'wait', { ids: ['x'], wait: 61 }],
    ['two minutes', 'wait', { ids: ['x'], wait: '2m' }],
    ['an unknown field', 'more', { ids: ['x'], more: 1 }],
  ])('refuses %s', async (_what, path, body) => {
    await serve()
    const { status, body: problem } = await server.post('/tasks/wait', body)
    expect([status, problem.detail]).toEqual([400, expect.stringContaining(path)])
  })

  it.each(['answered', 'left'])('holds no events of calls that were %s', async (how) => {
    const { slow, asked, open, close } = gated()
    await serve({}, slow)
    const events = vi.spyOn(queue, 'events')
    // All calls together hold the events of 64 MiB.
    const ids = await submit(66)
    const first = await waiting(ids)
    await first.begun()
    await work(1)
    await asked()
    for (const _ of ids.slice(1)) await work(1, 'x'.repeat(1_040_000))
    const { last } = await queue.events({ after: null, max: 1 })
    await vi.waitFor(() => expect(events.mock.calls.map(([{ after }]) => after)).toContain(last))
    if (how === 'left') {
      first.leave()
      await vi.waitFor(async () => expect(await clientsOf()).toBe(0))
      open()
    } else {
      open()
      for (const _ of ids) await first.line()
    }
    // The call is over.
    await vi.waitFor(() => expect(events.mock.lastCall![0].signal!.aborted).toBe(true))

    close()
    const [gone, other] = await submit(2)
    const { begun, line } = await waiting([gone!, other!])
    await begun()
    await queue.cancel({ ids: [other!] })
    await asked()
    await work(1, 'x'.repeat(1_040_000))
    await queue.erase([gone!])
    open()
    const statuses = [await line(), await line()].map(({ status }) => status)
    expect(statuses.sort()).toEqual(['canceled', 'success'])
  })

  it('shows from time to time that it waits, and logs nothing when the caller hangs up', async () => {
    const patience = { headersMs: 10_000, requestMs: 60_000, lookMs: 1_000, heartbeatMs: 50, drainMs: 30_000 }
    const log: string[] = []
    await serve({ patience, logger: pino({ level: 'warn' }, { write: (line) => void log.push(line) }) })
    const [id] = await submit()
    const { status, body } = await server.post('/tasks/wait', { ids: [id], wait: 1 })
    expect([status, body]).toEqual([200, expect.stringMatching(/^\n{3,}$/)])
    const { begun, leave } = await waiting([id!])
    await begun()
    leave()
    await server.stop()
    expect(log).toEqual([])
  })

  it('ends when the server closes', async () => {
    await serve()
    const [id] = await submit()
    const answer = server.post('/tasks/wait', { ids: [id], wait: 60 })
    const events = vi.spyOn(queue, 'events')
    await vi.waitFor(() => expect(events).toHaveBeenCalled())
    await server.stop()
    expect((await answer).body).toBe('\n')
  })

  it('disconnects a caller that does not read its lines', async () => {
    const patience = { headersMs: 10_000, requestMs: 60_000, lookMs: 1_000, heartbeatMs: 15_000, drainMs: 200 }
    await serve({ patience })
    const ids = await submit(12)
    const socket = connect(server.port, '127.0.0.1')
    closeAfterwards(() => socket.destroy())
    await once(socket, 'connect')
    socket.pause()
    const body = JSON.stringify({ ids, wait: 60 })
    const head = `Host: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}`
    socket.write(`POST /api/v1/tasks/wait HTTP/1.1\r\n${head}\r\n\r\n${body}`)
    // More than the buffers of the connection hold.
    for (const _ of ids) await work(1, 'x'.repeat(900_000))
    await vi.waitFor(async () => expect(await clientsOf()).toBe(0), { timeout: 20_000, interval: 50 })
  })

  it('has a maximum of calls for each caller', async () => {
    await serve()
    const [id] = await submit()
    // More, because calls below may take the place of some of them.
    const calls = Array.from({ length: 1_100 }, () => waiting([id!]))
    await Promise.all(calls)
    await vi.waitFor(async () => {
      const { status, body, headers } = await server.post('/tasks/wait', { ids: [id], wait: 0 })
      expect([status, body.code, headers.get('retry-after')]).toEqual([429, 'too_many_calls', '1'])
    }, 20_000)
    for (const { leave } of await Promise.all(calls)) leave()
  })

  it('has a maximum of tasks for all calls of a caller', async () => {
    await serve()
    const [open] = await submit()
    const ids = [open!, ...Array.from({ length: 999 }, (_, index) => `none-${index}`)]
    const calls = await Promise.all(Array.from({ length: 120 }, () => waiting(ids)))
    await vi.waitFor(async () => {
      const { status, body } = await server.post('/tasks/wait', { ids: [open], wait: 0 })
      expect([status, body.code]).toEqual([429, 'too_many_calls'])
      expect(body.detail).toContain('waits for 100000 tasks')
    }, 20_000)
    for (const { leave } of calls) leave()
    await vi.waitFor(async () => expect(await waitFor([open!], 0)).toEqual([]), 20_000)
  })
})

it('shows only the tasks and contents that the key may see', async () => {
  const guarded = await startServer({ auth: 'keys' })
  closeAfterwards(() => guarded.stop())
  for (const type of ['mine', 'other']) await guarded.queue.configureType(type, { declared: true })
  const submitted = await guarded.queue.submit(['mine', 'other'].map((type) => completeSpec({ type })))
  const [mine, other] = submitted.map(({ task }) => task.id)
  await guarded.queue.cancel({ ids: [mine!, other!] })
  const ask = async (token: string) => {
    const { status, body } = await guarded.as(token).post('/tasks/wait', { ids: [mine, other], wait: 0 })
    return [status, status === 200 ? linesIn(body).map(({ id, status }) => [id, status]) : body.code]
  }
  const bounds = { types: ['mine'], groups: null, limits: null }
  expect(await ask(await guarded.key(['read'], { bounds } as never))).toEqual([
    200,
    [
      [mine, 'canceled'],
      [other, null],
    ],
  ])
  expect(await ask(await guarded.key(['submit']))).toEqual([403, 'forbidden'])
})
