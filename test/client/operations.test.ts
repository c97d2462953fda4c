import { beforeAll, expect, expectTypeOf, it, vi } from 'vitest'
import { createClient, defineHandlers, type NewTask, type Task, type TaskWith, XQueueError } from '../../src/index.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const handlers = defineHandlers({
  double: { run: ({ payload }: TaskWith<number>) => payload * 2 },
  shout: { run: ({ payload }: TaskWith<{ text: string }>) => payload.text.toUpperCase() },
  times: {
    run: ({ createdAt, runAt, startedAt, processTimeout }: TaskWith<object>) =>
      createdAt instanceof Date && runAt instanceof Date && startedAt instanceof Date && processTimeout === 60,
  },
  refuse: {
    maxRetry: 0,
    run: () => {
      throw new Error('never')
    },
  },
})
let server: Server
const client = () => createClient<typeof handlers>(server.url)

beforeAll(async () => {
  server = await startServer({}, handlers)
})

it('submits tasks of several types in one call, each with the payload of its type', async () => {
  const tasks: NewTask<typeof handlers>[] = [
    { type: 'double', payload: 21 },
    { type: 'shout', payload: { text: 'hello' }, priority: 9 },
  ]
  const [first, second] = await client().submitMany(tasks)
  expect([await client().result<'double'>(first!), await client().result<'shout'>(second!)]).toEqual([42, 'HELLO'])
  // @ts-expect-error the payload of another type
  const wrong: NewTask<typeof handlers> = { type: 'double', payload: { text: 'hello' } }
  expect(wrong).toBeDefined()
})

it('iterates over all pages of a list', async () => {
  const tasks = Array.from({ length: 25 }, (_, n) => ({ type: 'double' as const, payload: n, batch: 'pages' }))
  const ids = await client().submitMany(tasks)
  const listed: number[] = []
  for await (const task of client().list({ type: 'double', batch: 'pages', pageSize: 10 })) {
    expectTypeOf(task.payload).toEqualTypeOf<number>()
    expect(task.createdAt).toBeInstanceOf(Date)
    listed.push(task.payload)
  }
  expect(listed.sort((a, b) => a - b)).toEqual(ids.map((_, n) => n))
  const sizes: number[] = []
  let cursor: string | null = null
  for await (const page of client().list({ batch: 'pages', pageSize: 10 }).pages()) {
    sizes.push(page.tasks.length)
    if (sizes.length === 1) cursor = page.nextCursor
  }
  expect(sizes).toEqual([10, 10, 5])
  const rest: Task[] = await Array.fromAsync(client().list({ batch: 'pages', cursor: cursor! }))
  expect(rest).toHaveLength(15)
})

it('lists tasks by a tag whose key has a colon, and stops at its signal', async () => {
  const { id } = await client().submit('double', 1, { tags: { 'order:id': 'a:b' } })
  const found = await Array.fromAsync(client().list({ tag: { key: 'order:id', value: 'a:b' } }))
  expect(found.map((task) => task.id)).toEqual([id])
  const signal = AbortSignal.abort(new Error('enough'))
  await expect(Array.fromAsync(client().list({ signal }))).rejects.toThrow('enough')
})

it('lists, counts and retries tasks by their time and by a part of their error', async () => {
  const before = new Date()
  const { id } = await client().submit('refuse', {})
  await expect(client().result(id)).rejects.toThrow('never')
  const filter = { type: 'refuse' as const, error: 'NEVER', createdAfter: before }
  const found = await Array.fromAsync(client().list(filter))
  expect(found.map((task) => task.id)).toEqual([id])
  expect(await Array.fromAsync(client().list({ ...filter, error: 'other' }))).toEqual([])
  expect(await client().retryMany({ ...filter, dryRun: true })).toBe(1)
  expect(await client().retryMany({ error: 'never', createdBefore: before, dryRun: true })).toBe(0)
  expect(await client().retryMany(filter)).toBe(1)
  const wrong = { createdAfter: new Date(Date.now() + 1_000), createdBefore: before }
  await expect(Array.fromAsync(client().list(wrong))).rejects.toMatchObject({ code: 'invalid_request' })
})

it('passes dates and seconds to handlers and the client', async () => {
  const task = await client().submit('times', {}, { processTimeout: '1m', runAt: new Date() })
  expect(task).toMatchObject({ processTimeout: 60, queueTimeout: 600, completedAt: null })
  expect(await client().result(task)).toBe(true)
  expect((await client().get(task.id)).completedAt).toBeInstanceOf(Date)
})

it('sends changes with their times as dates', async () => {
  const stop = new AbortController()
  const following = (async () => {
    for await (const change of client().changes({ type: 'shout' }, stop.signal)) return change
    return null
  })()
  const submitting = vi.waitFor(async () => {
    await client().result(await client().submit('shout', { text: 'x' }))
    stop.signal.throwIfAborted()
  })
  let change: Awaited<typeof following> = null
  while (change === null) {
    change = await Promise.race([
      following,
      client()
        .submit('shout', { text: 'x' })
        .then(() => null),
    ])
  }
  await submitting
  stop.abort()
  expect(change).toMatchObject({ type: 'shout', taskId: expect.any(String), timestamp: expect.any(Date) })
})

it('explains why a task waits', async () => {
  await client().types.pause('double')
  const { id } = await client().submit('double', 1, { group: 'acme' })
  const explanation = await client().explain(id)
  expect(explanation).toMatchObject({ id, type: 'double', group: 'acme', status: 'pending', reason: 'paused' })
  expect(explanation).toMatchObject({ maxConcurrency: null, holders: [], ahead: 0, waitsFor: [], until: null })
  expect((await client().types.resume('double')).paused).toBe(false)
  expect(await client().result<'double'>(id)).toBe(2)
  const until = await client().types.hold('double', '1h')
  const held = await client().submit('double', 2)
  expect(await client().explain(held.id)).toMatchObject({ reason: 'held', until })
  expect((await client().types.list()).find(({ type }) => type === 'double')!.heldUntil).toEqual(until)
  expect(await client().types.hold('double', 0)).toBeNull()
  expect(await client().result(held)).toBe(4)
})

it('cancels, retries and counts all matching tasks', async () => {
  await client().types.pause('shout')
  const tasks = [1, 2, 3].map((n) => ({ type: 'shout' as const, payload: { text: `${n}` }, group: 'many' }))
  const ids = await client().submitMany(tasks)
  expect(await client().cancelMany({ type: 'shout', group: 'many', dryRun: true })).toBe(3)
  expect((await client().get(ids[0]!)).status).toBe('pending')
  expect(await client().cancelMany({ group: 'many' })).toBe(3)
  expect((await client().get(ids[0]!)).status).toBe('canceled')
  expect(await client().retryMany({ group: 'many', status: 'canceled' })).toBe(3)
  await client().types.resume('shout')
  expect(await Promise.all(ids.map((id) => client().result<'shout'>(id)))).toEqual(['1', '2', '3'])
})

it('deletes a finished task', async () => {
  const task = await client().submit('double', 4)
  await client().result(task)
  await client().delete(task.id)
  await expect(client().get(task.id)).rejects.toMatchObject({ code: 'not_found', status: 404 })
})

it('deletes all matching tasks that have ended, and counts them before', async () => {
  const tasks = [1, 2].map((n) => ({ type: 'double' as const, payload: n, group: 'gone' }))
  const ids = await client().submitMany(tasks)
  for (const id of ids) await client().result(id)
  const waiting = await client().submit('double', 3, { group: 'gone', delay: '1h' })
  expect(await client().deleteMany({ group: 'gone', dryRun: true })).toBe(2)
  expect(await client().deleteMany({ group: 'gone' })).toBe(2)
  await expect(client().get(ids[0]!)).rejects.toMatchObject({ code: 'not_found' })
  expect((await client().get(waiting.id)).status).toBe('pending')
  await client().cancel(waiting.id)
})

it('reads, sets and removes limits', async () => {
  const [type, groups] = ['type:double', 'group:double/*']
  const rate = { max: 100, per: 60 }
  const set = await client().limits.set(type, { max: 5, rate: { max: 100, per: '1m' } })
  const same = { name: type, rate, paused: false, heldUntil: null, inUse: 0, waiting: 0 }
  expect(set).toEqual({ ...same, max: 5 })
  expect(await client().limits.set(type, { max: null })).toEqual({ ...same, max: null })
  expect(await client().limits.set(groups, { max: 2 })).toMatchObject({ name: groups, max: 2 })
  expect((await client().limits.list()).map(({ name }) => name)).toEqual(expect.arrayContaining([type, groups]))
  expect(await client().limits.get(type)).toEqual({ ...same, waiters: [], max: null, holders: [] })
  expect(await client().limits.remove(type)).toMatchObject({ max: null, rate: null })
  await expect(client().limits.get('double')).rejects.toMatchObject({ code: 'not_found' })
})

it('declares a type with its ceilings and its retention', async () => {
  const declared = await client().types.declare('later', {
    ceilings: { processTimeout: '1h' },
    retention: { success: 60 },
  })
  expect(declared).toMatchObject({ type: 'later', declared: true, ceilings: { processTimeout: 3_600, maxRetry: null } })
  expect(declared.retention).toEqual({ success: 60, failed: null, canceled: null, timeout: null })
  expect((await client().types.list()).map(({ type }) => type)).toEqual(expect.arrayContaining(['double', 'later']))
})

it('reads the statistics and the workers', async () => {
  const stats = await client().stats()
  expect(stats.tasks.success).toBeGreaterThan(0)
  expect(stats).toMatchObject({ totalWorkers: 1, delayedTasks: 0, dependentTasks: 0 })
  const [worker] = await client().workers()
  expect(worker).toMatchObject({ id: expect.any(String), startedAt: expect.any(Date), lastSeen: expect.any(Date) })
})

it('returns handles of the tasks of a flow, which can be awaited after its submission', async () => {
  const flow = client().flow()
  const numbers = [1, 2].map((n) => flow.add('double', n))
  const last = flow.add('shout', { text: 'done' }, { after: numbers })
  expect(() => last.id).toThrow('the flow of this "shout" task is not submitted: call submit() first')
  const { ids } = await flow.submit()
  const results = await Promise.all(numbers.map((task) => task.result()))
  expectTypeOf(results).toEqualTypeOf<number[]>()
  expect(results).toEqual([2, 4])
  expect(await last.result()).toBe('DONE')
  expect([...numbers, last].map(({ id }) => id)).toEqual(ids)
})

it('throws errors of one class with a code, and the details of the answer', async () => {
  const error: unknown = await client()
    .submit('nope' as 'double', 1)
    .catch((thrown) => thrown)
  expect(error).toBeInstanceOf(XQueueError)
  const { code, status, errors, registeredTypes, retryAfter } = error as XQueueError
  expect({ code, status, retryAfter }).toEqual({ code: 'unknown_type', status: 400, retryAfter: null })
  expect(registeredTypes).toContain('double')
  expect(errors).toEqual([{ path: 'type', message: 'unknown task type "nope"' }])
  const failed = client().result(await client().submit('refuse', undefined as never))
  await expect(failed).rejects.toMatchObject({ name: 'TaskUnsuccessful', code: 'task_failed', task: { attempts: 1 } })
})
