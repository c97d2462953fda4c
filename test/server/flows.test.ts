import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { TASK_LIMITS } from '../../src/task/task.ts'
import type { Handlers } from '../../src/worker/handler.ts'
import { openTestQueue, type QueueServer, serveQueue } from '../fixtures/server.ts'

let queue: Queue
let server: QueueServer
/** Moved on by tests; real time goes on beside. */
let aheadMs = 0

const handlers: Handlers = {
  fetch: { run: () => null },
  report: { run: () => null },
}
const RETENTION_MS = 3_600_000

beforeAll(async () => {
  const retention = { ageMs: RETENTION_MS, countMax: 100_000 }
  queue = await openTestQueue('sqlite::memory:', { clock: () => Date.now() + aheadMs, retention })
  server = await serveQueue(queue, { handlers })
})
afterEach(() => server.call('POST', '/tasks/cancel', {}))

const get = async (path: string) => (await server.call('GET', path)).body
const task = (id: string) => get(`/tasks/${id}`)
/** Submits together, and gives the ids. */
async function submitAll(...tasks: object[]): Promise<string[]> {
  const all = tasks.map((one) => ({ type: 'fetch', max_retry: 0, ...one }))
  const { status, body } = await server.call('POST', '/tasks/batch', { tasks: all })
  expect({ status, body }).toMatchObject({ status: 201 })
  return body.tasks.map(({ id }: { id: string }) => id)
}
const take = async (max = 1) =>
  (await server.call('POST', '/tasks/consume', { types: ['fetch', 'report'], max })).body.leases
async function end(how: 'complete' | 'fail', body: object): Promise<string> {
  const [{ lease, task }] = await take()
  expect((await server.call('POST', `/leases/${lease}/${how}`, body)).status).toBe(200)
  return task.id
}
const succeed = (result: unknown = null) => end('complete', { result })
const fail = (error = 'broken') => end('fail', { error, retry: false })

describe('a graph in one batch', () => {
  it('is accepted completely, runs in its order, and passes on the outcomes of predecessors', async () => {
    const tasks = [{}, { type: 'report', after: [0] }, { after: [0] }, { type: 'report', after: [2, 1] }]
    const [first, left, right, last] = await submitAll(...tasks.map((one) => ({ ...one, batch: 'graph' })))
    expect(await task(last!)).toMatchObject({
      status: 'pending',
      after: [right, left],
      on_failure: 'cancel',
      batch: 'graph',
    })
    expect(await task(first!)).toMatchObject({ after: [], batch: 'graph' })
    expect(await get(`/tasks/${last}/explain`)).toMatchObject({ reason: 'waits_for_tasks', waits_for: [right, left] })
    const explanation = await get(`/tasks/${first}/explain`)
    expect(explanation).toMatchObject({ successors: [left, right], has_more_successors: false })
    expect(await succeed('one')).toBe(first)
    const middle = await take(9)
    expect(middle.map((lease: { task: { id: string } }) => lease.task.id).sort()).toEqual([left, right].sort())
    const one = { id: first, type: 'fetch', status: 'success', result: 'one', error: null }
    for (const { lease, task, predecessors } of middle) {
      expect(predecessors).toEqual([one])
      await server.call('POST', `/leases/${lease}/complete`, { result: task.id === left ? { n: 1 } : [2] })
    }
    expect(await get(`/tasks/${last}/explain`)).toMatchObject({ reason: 'ready', waits_for: [] })
    const [{ task: joined, predecessors, lease }] = await take(9)
    expect(joined.id).toBe(last)
    expect(predecessors).toEqual([
      { id: right, type: 'fetch', status: 'success', result: [2], error: null },
      { id: left, type: 'report', status: 'success', result: { n: 1 }, error: null },
    ])
    await server.call('POST', `/leases/${lease}/complete`, {})
    expect(await get('/batches/graph')).toEqual({
      batch: 'graph',
      total: 4,
      ...{ pending: 0, processing: 0, success: 4, failed: 0, canceled: 0, timeout: 0, removed: 0 },
      progress: 100,
      done: true,
    })
  })

  it('passes on large results one by one, as long as the lease is held', async () => {
    const [first, second, last] = await submitAll({}, {}, { after: [0, 1] })
    const text = 'x'.repeat(600_000)
    for (let ended = 0; ended < 2; ended++) await succeed(text)
    const [{ lease, task, predecessors }] = await take()
    expect(task.id).toBe(last)
    const [handed, omitted] = [first, second].map((id) => ({ id, type: 'fetch', status: 'success', error: null }))
    expect(predecessors).toEqual([
      { ...handed, result: text },
      { ...omitted, result: null, omitted: true },
    ])
    const read = (id: string) => server.call('GET', `/leases/${lease}/predecessors/${id}`)
    for (const id of [first!, second!])
      expect(await read(id)).toMatchObject({ status: 200, body: { id, result: text } })
    expect(await read(last!)).toMatchObject({ status: 404, body: { code: 'not_found' } })
    await server.call('POST', `/leases/${lease}/complete`, {})
    expect(await read(second!)).toMatchObject({ status: 410, body: { code: 'lease_lost' } })
  })

  it('may wait for existing and ended tasks, and returns a task that it cancels at once', async () => {
    const [ended, waiting] = await submitAll({}, { delay: '1h' })
    expect(await succeed(7)).toBe(ended)
    const { status, body } = await server.call('POST', '/tasks', { type: 'fetch', after: [waiting, ended] })
    expect([status, body.after]).toEqual([201, [waiting, ended]])
    expect((await get(`/tasks/${body.id}/explain`)).waits_for).toEqual([waiting])
    await server.call('DELETE', `/tasks/${waiting}`)
    const error = `task ${waiting}, which it waits for, ended as canceled`
    expect(await task(body.id)).toMatchObject({ status: 'canceled', error })
    const late = await server.call('POST', '/tasks', { type: 'fetch', after: [waiting] })
    expect(late.status).toBe(201)
    expect(await task(late.body.id)).toMatchObject({ status: 'canceled', error })
  })

  it('is recognized by the idempotency keys of its tasks', async () => {
    const tasks = (batch: string) => [
      { type: 'fetch', idempotency_key: 'a', batch },
      { type: 'fetch', idempotency_key: 'b', after: [0], batch },
    ]
    const first = await server.call('POST', '/tasks/batch', { tasks: tasks('first try') })
    const again = await server.call('POST', '/tasks/batch', { tasks: tasks('second try') })
    expect(again.body).toEqual(first.body)
    const other = await server.call('POST', '/tasks', { type: 'fetch', idempotency_key: 'b' })
    expect([other.status, other.body.code]).toEqual([409, 'idempotency_conflict'])
  })
})

describe('an invalid predecessor', () => {
  const places = (...afters: unknown[][]) => afters.map((after) => ({ type: 'fetch', after }))

  it.each<[string, object[], string, string]>([
    [
      'a later task',
      places([1], []),
      'tasks[0].after[0]',
      'is 1, but this task has the position 0: a task can wait for earlier tasks of its batch only, so move it behind them',
    ],
    [
      'itself',
      places([], [1]),
      'tasks[1].after[0]',
      'is 1, the position of this task itself: a task can wait for earlier tasks',
    ],
    ['an index beyond the batch', places([], [0, 7]), 'tasks[1].after[1]', 'is 7, but this task has the position 1'],
    ['the same index twice', places([], [0, 0]), 'tasks[1].after', 'has equal entries at 0 and 1: use each once'],
    ['the same id twice', places(['x', 'y', 'x']), 'tasks[0].after', 'has equal entries at 0 and 2'],
    ['a negative index', places([], [-1]), 'tasks[1].after[0]', 'must be >= 0'],
    ['a fractional index', places([], [0.5]), 'tasks[1].after[0]', 'must be a string or an integer'],
    ['a value that is neither', places([], [null]), 'tasks[1].after[0]', 'must be a string or an integer'],
    ['a value that is not a list', [{ type: 'fetch', after: 'x' }], 'tasks[0].after', 'must be an array'],
    [
      'an unknown policy',
      [{ type: 'fetch', on_failure: 'stop' }],
      'tasks[0].on_failure',
      'must be one of cancel, run, wait',
    ],
    ['a batch without a name', [{ type: 'fetch', batch: '' }], 'tasks[0].batch', 'fewer than 1'],
    ['a batch with a line break', [{ type: 'fetch', batch: 'a\nb' }], 'tasks[0].batch', 'control characters'],
    ['a batch name that no URL can contain', [{ type: 'fetch', batch: '..' }], 'tasks[0].batch', 'must not be . or ..'],
    ['a long name', [{ type: 'fetch', batch: 'b'.repeat(129) }], 'tasks[0].batch', 'more than 128'],
  ])('is refused with the whole batch: %s', async (_, tasks, path, message) => {
    const before = await get('/stats')
    const { status, body } = await server.call('POST', '/tasks/batch', { tasks })
    expect([status, body.code]).toEqual([400, 'invalid_request'])
    expect(body.errors).toContainEqual({ path, message: expect.stringContaining(message) })
    expect((await get('/stats')).pending_tasks).toBe(before.pending_tasks)
  })

  it('is an index in a single submission', async () => {
    const { status, body } = await server.call('POST', '/tasks', { type: 'fetch', after: [0] })
    expect(status).toBe(400)
    const message = /^is the position 0 in a batch, but this task is submitted alone: use the ids of tasks, or submit/
    expect(body.errors).toEqual([{ path: 'after[0]', message: expect.stringMatching(message) }])
    expect(body.detail).toBe(`after[0] ${body.errors[0].message}`)
  })

  it('is an unknown task: each is named, and nothing is accepted', async () => {
    const [known] = await submitAll({})
    const tasks = [{ type: 'fetch' }, { type: 'fetch', after: [0, 'none'] }, { type: 'fetch', after: [known, 'gone'] }]
    const { status, body } = await server.call('POST', '/tasks/batch', { tasks })
    expect([status, body.code]).toEqual([400, 'unknown_predecessor'])
    expect(body.detail).toMatch(/there is no task "none": it may have expired$/)
    expect(body.errors).toEqual([
      { path: 'tasks[1].after[1]', message: 'there is no task "none"' },
      { path: 'tasks[2].after[1]', message: 'there is no task "gone"' },
    ])
    const alone = await server.call('POST', '/tasks', { type: 'fetch', after: ['none'] })
    expect([alone.body.code, alone.body.errors[0].path]).toEqual(['unknown_predecessor', 'after[0]'])
    expect((await get('/stats')).pending_tasks).toBe(1)
  })

  it('is one of more than 1,000, or has more than 10,000 successors', async () => {
    const many = places(Array.from({ length: TASK_LIMITS.afterMax + 1 }, (_, place) => place))
    const { body } = await server.call('POST', '/tasks/batch', { tasks: many })
    expect(body.errors[0]).toEqual({ path: 'tasks[0].after', message: 'must not have more than 1000 items' })
    const [id] = await submitAll({ delay: '1h' })
    const crowd = Array.from({ length: TASK_LIMITS.successorsMax }, () => ({ type: 'fetch', after: [id] }))
    expect((await server.call('POST', '/tasks/batch', { tasks: crowd })).status).toBe(201)
    const refused = await server.call('POST', '/tasks', { type: 'fetch', after: [id] })
    expect([refused.status, refused.body.code]).toEqual([409, 'too_many_successors'])
    expect(refused.body.detail).toMatch(`task ${id} would have more: let the others wait for an intermediate task`)
  })

  it('is reported soon, at any size', async () => {
    const after = Array.from({ length: 1_000 }, (_, place) => place)
    const tasks = Array.from({ length: 3_500 }, (_, place) => ({ type: 'fetch', after: place > 999 ? [place] : after }))
    const { status, body } = await server.call('POST', '/tasks/batch', { tasks })
    expect([status, body.code]).toEqual([413, 'too_large'])
    expect(body.detail).toContain('has 1002500 entries')
    const fewer = await server.call('POST', '/tasks/batch', { tasks: tasks.slice(0, 20) })
    expect([fewer.status, fewer.body.errors.length]).toEqual([400, 20])
  })
})

describe('after a predecessor ends without success, a task', () => {
  it.each([undefined, 'cancel'])('is canceled with its successors, with on_failure %s', async (on_failure) => {
    const [first, second, third] = await submitAll({}, { after: [0], on_failure }, { after: [1] })
    expect(await fail()).toBe(first)
    const error = (id: string, status: string) => `task ${id}, which it waits for, ended as ${status}`
    expect(await task(second!)).toMatchObject({ status: 'canceled', error: error(first!, 'failed'), attempts: 0 })
    expect(await task(third!)).toMatchObject({ status: 'canceled', error: error(second!, 'canceled') })
    expect(await take()).toEqual([])
  })

  it('runs when all have ended, with any outcome, with run', async () => {
    const [bad, stopped, last] = await submitAll({}, {}, { after: [0, 1], on_failure: 'run' })
    await fail('no luck')
    expect((await get(`/tasks/${last}/explain`)).waits_for).toEqual([stopped])
    await server.call('DELETE', `/tasks/${stopped}`)
    const [{ task: ran, predecessors }] = await take()
    expect(ran.id).toBe(last)
    expect(predecessors).toEqual([
      { id: bad, type: 'fetch', status: 'failed', result: null, error: 'no luck' },
      { id: stopped, type: 'fetch', status: 'canceled', result: null, error: null },
    ])
  })

  it('waits until the predecessor is retried and succeeds, with wait', async () => {
    const [first, second] = await submitAll({}, { after: [0], on_failure: 'wait' })
    await fail()
    expect(await get(`/tasks/${second}/explain`)).toMatchObject({ reason: 'waits_for_tasks', waits_for: [first] })
    expect((await server.call('POST', `/tasks/${first}/retry`)).status).toBe(200)
    await succeed(1)
    const [{ predecessors }] = await take()
    expect(predecessors).toMatchObject([{ id: first, status: 'success', result: 1 }])
  })

  it('cannot be retried after its predecessors were removed, and says so', async () => {
    const [first, second] = await submitAll({ batch: 'gone' }, { batch: 'gone', after: [0], on_failure: 'wait' })
    await fail()
    aheadMs += RETENTION_MS + 1_000
    while ((await queue.sweep(1_000)).more);
    expect((await server.call('GET', `/tasks/${first}`)).status).toBe(404)
    expect(await task(second!)).toMatchObject({ status: 'canceled', error: expect.stringContaining(first!) })
    const { status, body } = await server.call('POST', `/tasks/${second}/retry`)
    expect([status, body.code]).toEqual([409, 'task_not_retryable'])
    expect(body.detail).toMatch(
      /is canceled: a task in its after ended without success and has been deleted: submit it again$/,
    )
    expect((await server.call('POST', '/batches/gone/retry')).body).toEqual({ count: 0 })
    expect(await get('/batches/gone')).toMatchObject({ total: 2, canceled: 1, removed: 1, progress: 100, done: true })
  })
})

describe('/batches', () => {
  it('counts the tasks of a batch by status, of all types and from all calls', async () => {
    await submitAll({ batch: 'b/1 ü' }, { type: 'report', batch: 'b/1 ü' }, { batch: 'another' })
    await server.call('POST', '/tasks', { type: 'fetch', batch: 'b/1 ü', delay: '1h' })
    const path = `/batches/${encodeURIComponent('b/1 ü')}`
    expect(await get(path)).toMatchObject({ batch: 'b/1 ü', total: 3, pending: 3, progress: 0, done: false })
    const [{ lease }] = await take()
    expect(await get(path)).toMatchObject({ pending: 2, processing: 1, progress: 0 })
    await server.call('POST', `/leases/${lease}/complete`, {})
    expect(await get(path)).toMatchObject({ pending: 2, success: 1, progress: 33.3, done: false })
  })

  it('cancels its unfinished tasks, and retries all without success, in any order', async () => {
    const [first, second, third] = await submitAll(
      { batch: 'again' },
      { batch: 'again', after: [0] },
      { batch: 'again', after: [1] },
    )
    const [other] = await submitAll({ delay: '1h' })
    await fail()
    expect(await get('/batches/again')).toMatchObject({ failed: 1, canceled: 2, progress: 100, done: true })
    expect(await server.call('POST', '/batches/again/retry')).toMatchObject({ status: 202, body: { count: 3 } })
    expect(await get('/batches/again')).toMatchObject({ pending: 3, progress: 0, done: false })
    expect([await succeed(), await succeed(), await succeed()]).toEqual([first, second, third])
    expect(await server.call('POST', '/batches/again/retry')).toMatchObject({ status: 202, body: { count: 0 } })
    const [left] = await submitAll({ batch: 'again', delay: '1h' })
    expect(await server.call('DELETE', '/batches/again')).toMatchObject({ status: 202, body: { count: 1 } })
    expect((await task(left!)).status).toBe('canceled')
    expect((await task(other!)).status).toBe('pending')
  })

  it('counts each canceled task of a chain', async () => {
    await submitAll({ batch: 'chain' }, { batch: 'chain', after: [0] }, { batch: 'chain', after: [1] })
    expect((await server.call('DELETE', '/batches/chain')).body).toEqual({ count: 3 })
  })

  it.each([
    ['GET', ''],
    ['DELETE', ''],
    ['POST', '/retry'],
  ])('%s answers 404 for an unknown batch', async (method, rest) => {
    const { status, body } = await server.call(method, `/batches/no%22ne${rest}`)
    expect([status, body.code]).toEqual([404, 'not_found'])
    expect(body.detail).toBe('batch "no\\"ne" not found: it has no tasks, or they have been deleted')
  })

  it('accepts names up to the maximum length, and no longer', async () => {
    const name = 'ü'.repeat(128)
    await submitAll({ batch: name })
    expect((await get(`/batches/${encodeURIComponent(name)}`)).total).toBe(1)
    const { status, body } = await server.call('GET', `/batches/${encodeURIComponent(`${name}ü`)}`)
    expect([status, body.errors[0].path]).toEqual([400, 'batch'])
  })

  it.each(['...', '.a', '%2e', '?', '#', '/'])('may be called %s', async (batch) => {
    await submitAll({ batch })
    expect(await get(`/batches/${encodeURIComponent(batch)}`)).toMatchObject({ batch, total: 1 })
  })

  it('filters lists, cancellations and retries', async () => {
    const [one, two] = await submitAll({ batch: 'l' }, { batch: 'l', type: 'report' }, { batch: 'm' }, {})
    const listed = async (query: string) => (await get(`/tasks?${query}`)).tasks.map(({ id }: { id: string }) => id)
    expect((await listed('batch=l')).sort()).toEqual([one, two].sort())
    expect(await listed('batch=l&type=report&status=pending')).toEqual([two])
    expect(await listed('batch=none')).toEqual([])
    const { body } = await server.call('POST', '/tasks/cancel', { batch: 'l', type: 'report' })
    expect(body).toEqual({ count: 1 })
    expect((await server.call('POST', '/tasks/retry', { batch: 'l' })).body).toEqual({ count: 1 })
  })
})

it('counts dependent tasks, in total and by type', async () => {
  await submitAll({}, { after: [0] }, { type: 'report', after: [0] }, { delay: '1h' })
  expect(await get('/stats')).toMatchObject({ pending_tasks: 4, dependent_tasks: 2, delayed_tasks: 1, ready_tasks: 1 })
  const { types } = await get('/types')
  const [fetching] = types.filter(({ type }: { type: string }) => type === 'fetch')
  expect(fetching).toMatchObject({ pending: 3, dependent: 1, delayed: 1 })
})
