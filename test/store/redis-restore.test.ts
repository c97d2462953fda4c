import { afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest'
import { createQueue } from '../../src/queue/create-queue.ts'
import { readNamed } from '../../src/queue/event-reader.ts'
import { openStore } from '../../src/store/open.ts'
import type { Remembered, State } from '../../src/store/state.ts'
import { completeSpec, specOfTask, type Task, type TaskSpec } from '../../src/task/task.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { startCluster } from '../fixtures/redis-cluster.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['a', 'b'], concurrency: 10, startedAt: 0 }
const READER = { name: 'reader', owner: 'me' }
let redis: RunningRedis
let state: State
beforeAll(async () => {
  redis = await startRedis()
})
beforeEach(async () => {
  state = (await openStore(redis.url, {}, readNamed)) as State
  await declare()
})
afterEach(async () => {
  await state.close()
  redisCli(redis.port, 'FLUSHALL')
})

const declare = async () => {
  for (const type of WORKER.types) await state.configureType(type, { declared: true })
}
const submit = async (specs: Partial<TaskSpec>[]) =>
  (await state.submit(specs.map((spec) => completeSpec({ type: 'a', ...spec })))).map(({ task }) => task)
const remember = (task: Task): Remembered => ({ task, spec: specOfTask(task, Date.now()) })
const loseAll = async () => {
  redisCli(redis.port, 'FLUSHALL')
  await declare()
}
const listed = async () => (await state.list({ limit: 100 })).tasks

it('restores tasks with their ids, once, in the order of lists and of age', async () => {
  const tasks = [
    ...(await submit([{ payload: 1 }, { payload: 2, priority: 3 }, { payload: 3, group: 'g', tags: { k: 'v' } }])),
    ...(await submit([{ type: 'b', payload: 4 }, { payload: 5, delayMs: 60_000 }, { payload: 6 }])),
  ]
  const before = await listed()
  await loseAll()
  expect(await state.restore(tasks.map(remember))).toEqual(Array(6).fill('restored'))
  expect(await state.restore(tasks.map(remember))).toEqual(Array(6).fill('known'))
  expect(await listed()).toEqual(before)
  const locations = await state.locate(tasks.map(({ id }) => id))
  expect(locations).toEqual(tasks.map(({ payload }) => (payload === 5 ? 'delayed' : 'waiting')))
  const { leases } = await state.turn({ worker: WORKER, want: 10 })
  const ofA = leases.filter(({ task }) => task.type === 'a').map(({ task }) => task.payload)
  expect(ofA).toHaveLength(4)
  expect(ofA[0]).toBe(2)
  expect(ofA.indexOf(1)).toBeLessThan(ofA.indexOf(6))
  const next = (await submit([{ payload: 7 }]))[0]!
  expect(next.id > tasks.at(-1)!.id).toBe(true)
})

it('gives new tasks later ids than restored ones of a machine whose clock was ahead', async () => {
  const ahead = (await openStore(redis.url, { clock: () => Date.now() + 60_000 }, readNamed)) as State
  const specs = [1, 2].map((payload) => completeSpec({ type: 'a', payload }))
  const tasks = (await ahead.submit(specs)).map(({ task }) => task)
  await ahead.close()
  await loseAll()
  expect(await state.restore(tasks.map(remember))).toEqual(['restored', 'restored'])
  const [next] = await submit([{ payload: 3 }])
  expect(next!.id > tasks.at(-1)!.id).toBe(true)
})

it('restores finished tasks unchanged, with their idempotency keys', async () => {
  const [task] = await submit([{ payload: 1, idempotencyKey: 'k' }])
  const { leases } = await state.turn({ worker: WORKER, want: 1 })
  const outcome = { kind: 'success', result: { well: true } } as const
  await state.turn({ worker: WORKER, want: 0, outcomes: [{ lease: leases[0]!.lease, outcome }] })
  const [ended] = await state.get([task!.id])
  await loseAll()
  expect(await state.restore([remember(ended!)])).toEqual(['restored'])
  expect(await state.get([task!.id])).toEqual([ended])
  expect(await listed()).toEqual([ended])
  expect((await createQueue(state).stats()).counts).toMatchObject({ success: 1, pending: 0 })
  const again = completeSpec({ type: 'a', payload: 1, idempotencyKey: 'k' })
  expect(await state.submit([again])).toMatchObject([{ existing: true, task: { id: task!.id } }])
})

it('restores the attempts of tasks, of finished and of waiting ones', async () => {
  const tasks = await submit([{ maxRetry: 0 }, { maxRetry: 1 }, {}])
  const { leases } = await state.turn({ worker: WORKER, want: 2 })
  const fail = (lease: string, at: number) => {
    const outcome = { kind: 'failure', error: `Error: ${at}`, retry: true, delayMs: 0 } as const
    return { lease, outcome }
  }
  await state.turn({ worker: WORKER, want: 0, outcomes: leases.map(({ lease }, at) => fail(lease, at)) })
  const ids = tasks.map(({ id }) => id)
  await state.change('retry', [ids[0]!])
  const before = await state.attempts(ids)
  expect(before.map(({ attempts }) => attempts.map(({ error }) => error))).toEqual([['Error: 0'], ['Error: 1'], []])
  const logged = (await state.get(ids)).map((task, at): Remembered => ({ ...remember(task!), kept: before[at]! }))
  logged[1]!.kept = { ...before[1]!, leftOut: 3 }
  await loseAll()
  expect(await state.restore(logged)).toEqual(Array(3).fill('restored'))
  expect(await state.attempts(ids)).toEqual([before[0], { ...before[1], leftOut: 3 }, before[2]])
})

it('restores waiting tasks unchanged, also those that ran before', async () => {
  const tasks = await submit([{ payload: 1 }, { payload: 2, group: 'g' }, { payload: 3 }])
  const { leases } = await state.turn({ worker: WORKER, want: 2 })
  const outcome = { kind: 'failure', error: 'no', retry: true, delayMs: 0 } as const
  await state.turn({ worker: WORKER, want: 0, outcomes: leases.map(({ lease }) => ({ lease, outcome })) })
  const ids = tasks.map(({ id }) => id)
  const before = await state.get(ids)
  expect(before).toMatchObject([{ attempts: 1, error: 'no' }, { attempts: 1, error: 'no' }, { attempts: 0 }])
  await loseAll()
  expect(await state.restore(before.map((task) => remember(task!)))).toEqual(Array(3).fill('restored'))
  expect((await state.get(ids)).map((task) => ({ ...task, updatedAt: 0 }))).toEqual(
    before.map((task) => ({ ...task, updatedAt: 0 })),
  )
})

it('keeps restored finished tasks as long as the retention of their type', async () => {
  const tasks = await submit([{ payload: 1 }, { type: 'b', payload: 2 }])
  const daysAgo = { startedAt: Date.now() - 172_800_000, completedAt: Date.now() - 172_800_000 }
  const ended = tasks.map((task): Task => ({ ...task, ...daysAgo, status: 'success', attempts: 1, result: 1 }))
  await loseAll()
  await state.configureType('a', { retention: { success: 2_592_000_000 } })
  expect(await state.restore(ended.map(remember))).toEqual(['restored', 'restored'])
  await state.sweep(100)
  expect((await listed()).map(({ type, status }) => [type, status])).toEqual([['a', 'success']])
})

it('restores tasks older than existing ones, and lists all of them, page by page, also after sweeps', async () => {
  const old = await submit(['old 1', 'old 2', 'old 3', 'old 4'].map((payload) => ({ payload })))
  const completedAt = Date.now()
  const ended: Task = { ...old[0]!, status: 'success', attempts: 1, startedAt: completedAt, completedAt, result: 1 }
  await loseAll()
  const [young] = await submit([{ payload: 'young' }])
  expect(await state.restore([ended, ...old.slice(1)].map(remember))).toEqual(Array(4).fill('restored'))
  for (let sweeps = 0; sweeps < 3; sweeps++) await state.sweep(1_000)
  const all = [...old, young!].map(({ payload }) => payload)
  expect((await listed()).map(({ payload }) => payload).sort()).toEqual(all)
  const pages = []
  for (let cursor: string | null = ''; cursor !== null; ) {
    const page: Awaited<ReturnType<State['list']>> = await state.list({
      limit: 2,
      ...(cursor === '' ? {} : { cursor }),
    })
    pages.push(page.tasks.map(({ payload }) => payload))
    cursor = page.nextCursor
  }
  expect(pages.filter((page) => page.length > 2)).toEqual([])
  expect(pages.flat().sort()).toEqual(all)
  const { leases } = await state.turn({ worker: WORKER, want: 10 })
  expect(leases.map(({ task }) => task.payload).sort()).toEqual(all.slice(1))
})

it('refuses tasks of another lane', async () => {
  const [a] = await submit([{}])
  await loseAll()
  // The first lane is now another one.
  await submit([{ type: 'b' }])
  const strange = { ...a!, id: '01890000-0000-7000-8000-000000000000' }
  expect(await state.restore([remember(a!), remember(strange)])).toEqual(['foreign', 'foreign'])
})

it('is restored by one process at a time, and detects the loss of everything', async () => {
  expect(await state.restoring()).toBe('empty')
  expect(await state.restoring('one', 10_000)).toBe('mine')
  expect(await state.restoring('two', 10_000)).toBe('another')
  expect(await state.restoring('one', 10_000, 'reader')).toBe('complete')
  expect(await state.restoring('two', 10_000)).toBe('complete')
  await submit([{}])
  const reader = { ...READER, leaseMs: 1_000 }
  const read = readNamed(state)
  const { events, last } = await read({ after: null, max: 10 }, reader)
  expect(events).toHaveLength(1)
  expect(await state.hasRead('reader', last)).toBe(false)
  await read({ after: last, max: 10 }, reader)
  expect(await state.hasRead('reader', last)).toBe(true)
  redisCli(redis.port, 'FLUSHALL')
  expect(await state.restoring()).toBe('empty')
})

it('is restored by one of two processes that each began with some partitions of a cluster', async () => {
  const cluster = await startCluster()
  const parts = (await openStore(`${cluster.url}?prefix=q`, { isState: true }, readNamed)) as State
  try {
    const { port } = cluster.nodes[0]!
    redisCli(port, '-c', 'SET', 'q:{3}:restoring', 'two', 'PX', '300')
    await vi.waitFor(
      async () => {
        // Each asks again and again, up to the first partition that the other one has, so `two` renews nothing.
        const answers = [await parts.restoring('one', 10_000), await parts.restoring('two', 10_000)]
        expect(answers).toEqual(['mine', 'another'])
      },
      { timeout: 10_000 },
    )
    expect(await parts.restoring('one', 10_000, READER.name)).toBe('complete')
  } finally {
    await parts.close()
    await cluster.stop()
  }
})

it('accepts no tasks and starts no reader before it is complete', async () => {
  const whole = (await openStore(redis.url, { isState: true }, readNamed)) as State
  const spec = completeSpec({ type: 'a', payload: 1 })
  const reader = { ...READER, leaseMs: 1_000, resumes: true }
  const read = () => readNamed(whole)({ after: null, max: 10 }, reader)
  try {
    await expect(whole.submit([spec])).rejects.toMatchObject({ code: 'engine_unavailable' })
    expect(await read()).toMatchObject({ held: false })
    await whole.restoring('one', 10_000)
    await whole.restoring('one', 10_000, READER.name)
    const [{ task } = {}] = await whole.submit([spec])
    expect(await read()).toMatchObject({ held: true, events: [{ taskId: task!.id }] })
    redisCli(redis.port, 'FLUSHALL')
    await declare()
    await expect(whole.submit([spec])).rejects.toMatchObject({ code: 'engine_unavailable' })
    expect(await read()).toMatchObject({ held: false })
  } finally {
    await whole.close()
  }
})

it('restores dependent tasks, and the outcomes of their predecessors', async () => {
  const [a, b, join, late] = await submit([
    { payload: 'a' },
    { type: 'b', payload: 'b' },
    { payload: 'join', after: [0, 1], batch: 'batch' },
    { payload: 'late', after: [2], onFailure: 'run' },
  ])
  const { leases } = await state.turn({ worker: WORKER, want: 9 })
  const lease = leases.find(({ task }) => task.id === a!.id)!.lease
  const outcomes = [{ lease, outcome: { kind: 'success', result: 1 } as const }]
  await state.turn({ worker: WORKER, want: 0, outcomes })
  const [ended] = await state.get([a!.id])
  await loseAll()
  await state.restore([ended!, b!, join!, late!].map(remember))
  expect(await state.get([join!.id, late!.id])).toEqual([join, late])
  const explained = await createQueue(state).explain(join!.id)
  expect(explained).toMatchObject({ reason: 'waits_for_tasks', waitsFor: [b!.id] })
  expect(await state.batch('batch')).toMatchObject({ total: 1, counts: { pending: 1 } })
  const again = await state.turn({ worker: WORKER, want: 9 })
  expect(again.leases.map(({ task }) => task.id)).toEqual([b!.id])
  const failure = { kind: 'success', result: 2 } as const
  await state.turn({ worker: WORKER, want: 0, outcomes: [{ lease: again.leases[0]!.lease, outcome: failure }] })
  const [last] = (await state.turn({ worker: WORKER, want: 9 })).leases
  expect(last).toMatchObject({ task: { id: join!.id }, predecessors: [{ result: 1 }, { type: 'b', result: 2 }] })
})

it('starts a dependent task whose predecessors are no longer in the log', async () => {
  const [a, b] = await submit([{}, { after: [0] }])
  await loseAll()
  await state.restore([b!].map(remember))
  const [lease] = (await state.turn({ worker: WORKER, want: 9 })).leases
  expect(lease).toMatchObject({ task: { id: b!.id }, predecessors: [{ id: a!.id, status: null, result: null }] })
})
