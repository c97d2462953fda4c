import { expect, it } from 'vitest'
import type { Changed } from '../../src/queue/queue.ts'
import { logText } from '../../src/task/log-line.ts'
import { completeSpec } from '../../src/task/task.ts'
import { BoundedQueue } from '../../src/tenants/bounded.ts'
import { startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

const ENGINES: Record<string, () => Promise<string>> = {
  SQLite: async () => 'sqlite::memory:',
  Redis: async () => (await startRedis()).url,
}

const SUCCESS = { kind: 'success', result: null } as const
const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 3, startedAt: 0 }

it.each(Object.entries(ENGINES))(
  'changes all tasks of several types within bounds, more of each than one step does, on %s',
  async (_name, url) => {
    const queue = await openTestQueue(await url())
    const types = ['mail-a', 'mail-b', 'other']
    const ids: string[] = []
    for (const type of types) {
      await queue.configureType(type, { declared: true })
      for (const count of [1_000, 300]) {
        const submitted = await queue.submit(Array.from({ length: count }, () => completeSpec({ type })))
        if (type !== 'other') ids.push(...submitted.map(({ task }) => task.id))
      }
    }
    const tenant = new BoundedQueue(queue, { types: ['mail-*'], groups: null })
    const changeAll = async (change: 'cancel' | 'retry') => {
      const found: string[] = []
      for (let before: Changed['next'] = null; ; ) {
        const { results, next }: Changed = await tenant[change]({ filter: {}, ...(before === null ? {} : { before }) })
        found.push(...results.map(({ id }) => id))
        if (next === null) return found.sort()
        before = next
      }
    }
    expect(await changeAll('cancel')).toEqual(ids.toSorted())
    expect(await changeAll('retry')).toEqual(ids.toSorted())
    const { counts } = await queue.stats()
    expect([counts.pending, counts.canceled]).toEqual([3_900, 0])
  },
)

it.each(Object.entries(ENGINES))('counts only tasks of the own groups as ahead, on %s', async (_name, url) => {
  const queue = await openTestQueue(await url())
  await queue.configureType('t', { declared: true })
  await queue.turn({ worker: WORKER, want: 0 })
  const specs = ['foreign', 'own', 'own', 'foreign', 'own'].map((group) => completeSpec({ type: 't', group }))
  const ids = (await queue.submit(specs)).map(({ task }) => task.id)
  const tenant = new BoundedQueue(queue, { types: ['t'], groups: ['own'] })
  const explained = await Promise.all([ids[1]!, ids[2]!, ids[4]!].map((id) => tenant.explain(id)))
  expect(explained.map((one) => [one!.reason, one!.ahead])).toEqual([
    ['ready', 0],
    ['behind', 1],
    ['behind', 2],
  ])
})

it.each(Object.entries(ENGINES))('hides the tasks of other groups that hold a limit, on %s', async (_name, url) => {
  const queue = await openTestQueue(await url())
  await queue.configureType('t', { declared: true, maxConcurrency: 2 })
  const specs = ['foreign', 'own', 'own'].map((group) => completeSpec({ type: 't', group }))
  const ids = (await queue.submit(specs)).map(({ task }) => task.id)
  await queue.turn({ worker: WORKER, want: 2 })
  const tenant = new BoundedQueue(queue, { types: ['t'], groups: ['own'] })
  const { reason, holders, until } = (await tenant.explain(ids[2]!))!
  expect({ reason, holders, until }).toMatchObject({
    reason: 'limit_reached',
    holders: [{ taskId: ids[1] }],
    until: null,
  })
})

it.each(Object.entries(ENGINES))('lists the own tasks behind many of other groups, on %s', async (_name, url) => {
  const queue = await openTestQueue(await url())
  await queue.configureType('t', { declared: true })
  const own = ['a', 'b'].map((group) => completeSpec({ type: 't', group }))
  const foreign = Array.from({ length: 6 }, () => completeSpec({ type: 't', group: 'foreign' }))
  await queue.submit([...own, ...foreign])
  const tenant = new BoundedQueue(queue, { types: ['t'], groups: ['a', 'b'] })
  expect((await tenant.list({ limit: 3 })).tasks.map(({ group }) => group).sort()).toEqual(['a', 'b'])
})

it.each(Object.entries(ENGINES))(
  'lists the tasks of all types that begin as the bounds say, on %s',
  async (_name, url) => {
    const queue = await openTestQueue(await url())
    for (const type of ['mail-a', 'mail-b', 'other']) {
      await queue.configureType(type, { declared: true })
      await queue.submit([completeSpec({ type })])
    }
    const tenant = new BoundedQueue(queue, { types: ['mail-*'], groups: null })
    expect((await tenant.list({ limit: 9 })).tasks.map(({ type }) => type).sort()).toEqual(['mail-a', 'mail-b'])
  },
)

it.each(Object.entries(ENGINES))('counts the own tasks of a type with other groups, on %s', async (_name, url) => {
  const queue = await openTestQueue(await url())
  await queue.configureType('t', { declared: true })
  for (const group of ['foreign', 'own']) {
    await queue.submit([completeSpec({ type: 't', group })])
    const { leases } = await queue.turn({ worker: WORKER, want: 1 })
    await queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease: leases[0]!.lease, outcome: SUCCESS }] })
  }
  for (const group of ['foreign', 'own']) {
    await queue.submit([completeSpec({ type: 't', group }), completeSpec({ type: 't', group, delayMs: 60_000 })])
  }
  const tenant = new BoundedQueue(queue, { types: ['t'], groups: ['own'] })
  const [type] = await tenant.types()
  const counted = { pending: 2, delayed: 1, processing: 0, throughput: 1 / 60 }
  expect(type).toMatchObject(counted)
  const { counts, delayed, throughput } = await tenant.stats()
  expect({ ...counts, delayed, throughput }).toMatchObject({ ...counted, success: 1, failed: 0 })
})

it.each(['other', 'missing'])('names the tasks whose type is unknown within the bounds: %s', async (type) => {
  const queue = await openTestQueue('sqlite::memory:')
  for (const known of ['own', 'other']) await queue.configureType(known, { declared: true })
  const tenant = new BoundedQueue(queue, { types: ['own', 'missing'], groups: null })
  const specs = ['own', type].map((one) => completeSpec({ type: one }))
  const refusal = { code: 'unknown_type', details: { registered_types: ['own'], errors: [{ path: 'tasks[1].type' }] } }
  await expect(tenant.submit(specs)).rejects.toMatchObject(refusal)
})

it('says that bounds are the reason why a type is unknown', async () => {
  const queue = await openTestQueue('sqlite::memory:')
  for (const known of ['own.a', 'other']) await queue.configureType(known, { declared: true })
  const tenant = new BoundedQueue(queue, { types: ['own.*'], groups: null })
  const outside = /bounded to the types own\.\*, and "other" is not one of them \(registered: own\.a\): use one of its/
  const task = completeSpec({ type: 'other' })
  const claim = (...types: string[]) => tenant.turn({ worker: { ...WORKER, types }, want: 1 })
  await expect(tenant.submit([task])).rejects.toThrow(outside)
  await expect(tenant.configureType('other', { paused: true })).rejects.toThrow(outside)
  await expect(claim('other')).rejects.toThrow(outside)
  await expect(claim('other', 'own.new')).rejects.toThrow(
    /"own\.new" does not exist, and a worker whose key has bounds creates no types \(registered: own\.a\): let an op/,
  )
  // A type that it may use and that does not exist is the same for all keys.
  await expect(tenant.submit([completeSpec({ type: 'own.new' })])).rejects.toThrow(/no handler is registered/)
})

it('names the groups of a key, and no more than ten of them, where a group is refused', async () => {
  const queue = await openTestQueue('sqlite::memory:')
  await queue.configureType('t', { declared: true })
  const submit = (groups: readonly string[]) =>
    new BoundedQueue(queue, { types: null, groups }).submit([completeSpec({ type: 't', group: 'x' })])
  const groups = Array.from({ length: 11 }, (_, n) => `g${n}`)
  const some = groups.slice(0, 10)
  await expect(submit(some)).rejects.toThrow(/is "x" and must be one of g0, g1, .*, g9$/)
  await expect(submit(groups)).rejects.toThrow(/ g9, …$/)
})

it('passes lines of a log on once, in a call that could wait for tasks', async () => {
  const queue = await openTestQueue('sqlite::memory:')
  await queue.configureType('t', { declared: true })
  const tenant = new BoundedQueue(queue, { types: ['t'], groups: ['own'] })
  const [submitted] = await tenant.submit([completeSpec({ type: 't', group: 'own' })])
  const turn = { worker: WORKER, want: 1, signal: new AbortController().signal }
  const { lease } = (await tenant.turn(turn)).leases[0]!
  const line = logText(1_700_000_000_000, 'info', 'once', '')
  await tenant.turn({ ...turn, waitMs: 500, logs: [{ lease, lines: [line] }] })
  expect((await tenant.logs(submitted!.task.id, 0, 9))!.lines).toHaveLength(1)
})

it('changes the settings of a type within the bounds, and of no other', async () => {
  const queue = await openTestQueue('sqlite::memory:')
  for (const type of ['own', 'other']) await queue.configureType(type, { declared: true })
  const tenant = new BoundedQueue(queue, { types: ['own'], groups: null })
  expect(await tenant.configureType('own', { paused: true })).toMatchObject({ type: 'own', paused: true })
  await expect(tenant.configureType('other', { paused: true })).rejects.toMatchObject({ code: 'unknown_type' })
  expect((await queue.types()).map(({ type, paused }) => [type, paused])).toEqual([
    ['other', false],
    ['own', true],
  ])
})

it('refuses tasks and schedules with limits of their own', async () => {
  const queue = await openTestQueue('sqlite::memory:')
  await queue.configureType('t', { declared: true })
  await queue.configureLimit('gpu', { max: 1 })
  const tenant = new BoundedQueue(queue, { types: ['t'], groups: null })
  const spec = completeSpec({ type: 't', uses: { gpu: 1 } })
  await expect(tenant.submit([spec])).rejects.toMatchObject({ code: 'forbidden' })
  const { delayMs: _, runAt: __, idempotencyKey: ___, ...task } = spec
  const rest = { catchUp: 'one', overlap: 'allow', paused: false } as const
  const add = { id: 'a', task, timing: { everyMs: 60_000 }, ...rest }
  await expect(tenant.schedules({ add })).rejects.toMatchObject({ code: 'forbidden' })
})
