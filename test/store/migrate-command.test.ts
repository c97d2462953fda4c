import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { beforeAll, expect, it, vi } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import type { ScheduleSpec } from '../../src/task/schedule.ts'
import { completeSpec, type Task } from '../../src/task/task.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { main } from '../fixtures/root.ts'

const TASKS = 2_000
const WORKER = { id: 'w', host: 'h', pid: 1, types: ['mail', 'image'], concurrency: 10, startedAt: 0 }
let kafka: RunningKafka
let redis: RunningRedis
const folder = temporaryFolder()
beforeAll(async () => {
  ;[kafka, redis] = await Promise.all([startKafka(), startRedis()])
})

/** Tasks of all kinds: with keys, groups, priorities and delays, one that has ended and one that was tried. */
async function fill(queue: Queue): Promise<void> {
  const limits = { maxConcurrency: 7, ceilings: { maxRetry: 9 }, retention: { failed: 9 } }
  await queue.configureType('mail', { declared: true, ...limits })
  await queue.configureType('image', { declared: true, paused: true, rate: { max: 9, perMs: 1_000 } })
  await queue.configureLimit('gpu', { max: 3 })
  await queue.configureLimit('openai/*', { rate: { max: 90, perMs: 60_000 } })
  await queue.configureLimit('openai/acme', { max: 2, paused: true })
  await queue.configureLimit('group:mail/group-1', { max: 4 })
  await queue.schedules({ add: daily('report', false) })
  await queue.schedules({ add: daily('asleep', true) })
  await queue.submit([completeSpec({ type: 'mail', payload: 'ended' })])
  const { leases } = await queue.turn({ worker: WORKER, want: 1 })
  const outcome = { kind: 'success', result: 'well' } as const
  await queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease: leases[0]!.lease, outcome }], leaving: true })
  const specs = Array.from({ length: TASKS }, (_, n) =>
    completeSpec({
      type: n % 5 === 0 ? 'image' : 'mail',
      payload: { n },
      priority: n % 3,
      queueTimeoutMs: 0,
      idempotencyKey: n % 4 === 0 ? `key-${n}` : null,
      group: n % 7 === 0 ? `group-${n % 2}` : null,
      uses: n % 11 === 0 ? { gpu: 1, 'openai/acme': 2 } : {},
      delayMs: n % 100 === 3 ? 3_600_000 : 0,
    }),
  )
  for (let from = 0; from < TASKS; from += 500) await queue.submit(specs.slice(from, from + 500))
}

function daily(id: string, paused: boolean): ScheduleSpec {
  const { delayMs: _, runAt: __, idempotencyKey: ___, ...task } = completeSpec({ type: 'mail' })
  const timing = { cron: '0 4 * * *', timezone: 'UTC' }
  return { id, task, timing, catchUp: 'one', overlap: 'skip', paused }
}

/** Runs the command; killed once it reported so many moved tasks. */
async function run(from: string, to: string, killAfter = Number.POSITIVE_INFINITY): Promise<string[]> {
  const args = [main, 'migrate', from, to, '--json']
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.on('data', (chunk) => {
    text += chunk
    const moved = /"moved":(\d+)\}\s*$/.exec(text)?.[1]
    if (Number(moved ?? 0) >= killAfter) child.kill('SIGKILL')
  })
  const [code, signal] = await once(child, 'close')
  expect(killAfter === Number.POSITIVE_INFINITY ? code : signal).toBe(
    killAfter === Number.POSITIVE_INFINITY ? 0 : 'SIGKILL',
  )
  return text.split('\n').filter(Boolean)
}

async function all(queue: Queue, status: Task['status']): Promise<Task[]> {
  const tasks: Task[] = []
  let cursor: string | null = null
  do {
    const page: Awaited<ReturnType<Queue['list']>> = await queue.list({
      status,
      limit: 1_000,
      ...(cursor ? { cursor } : {}),
    })
    tasks.push(...page.tasks)
    cursor = page.nextCursor
  } while (cursor !== null)
  return tasks
}

const numberOf = ({ payload }: Task) => (payload as { n: number }).n
const byNumber = (a: Task, b: Task) => numberOf(a) - numberOf(b)

async function expectAllThere(from: Queue, to: Queue): Promise<Task[]> {
  expect((await from.stats()).counts).toMatchObject({ pending: 0, processing: 0 })
  const there = (await all(to, 'pending')).sort(byNumber)
  expect(there.map(numberOf)).toEqual(Array.from({ length: TASKS }, (_, n) => n))
  const types = new Map((await to.types()).map((info) => [info.type, info]))
  const set = { maxConcurrency: 7, ceilings: { maxRetry: 9 }, retention: { set: { failed: 9 } }, paused: false }
  expect(types.get('mail')).toMatchObject(set)
  expect(types.get('image')).toMatchObject({ paused: true, rate: { max: 9, perMs: 1_000 } })
  expect(await to.limits()).toMatchObject([
    { name: 'gpu', max: 3, rate: null, inUse: 0 },
    { name: 'group:mail/group-1', max: 4, inUse: null, waiting: null },
    { name: 'openai/*', max: null, rate: { max: 90, perMs: 60_000 }, paused: false, inUse: null },
    { name: 'openai/acme', max: 2, rate: null, paused: true },
  ])
  const using = there.filter(({ uses }) => Object.keys(uses).length > 0)
  expect(using.map(numberOf)).toEqual(Array.from({ length: Math.ceil(TASKS / 11) }, (_, n) => n * 11))
  expect(using[0]!.uses).toEqual({ gpu: 1, 'openai/acme': 2 })
  expect(await to.schedules()).toMatchObject([
    { id: 'asleep', paused: true, nextAt: null },
    { id: 'report', paused: false, nextAt: expect.any(Number), overlap: 'skip' },
  ])
  expect(await from.schedules()).toMatchObject([{ paused: true }, { paused: true }])
  const again = completeSpec({
    type: 'mail',
    payload: { n: 4 },
    priority: 1,
    queueTimeoutMs: 0,
    idempotencyKey: 'key-4',
  })
  expect(await to.submit([again])).toMatchObject([{ existing: true, task: { id: there[4]!.id } }])
  return there
}

it('moves everything from a file to Redis, and reports the new id of each task', async () => {
  const [from, to] = [`sqlite:${folder}/a.db`, `${redis.url}?prefix=a`]
  const source = await openQueue(from)
  await fill(source)
  const before = (await all(source, 'pending')).sort(byNumber)
  const lines = await run(from, to)
  const target = await openQueue(to)
  const there = await expectAllThere(source, target)
  const renamed = lines.map((line) => JSON.parse(line).renamed).filter(Boolean)
  const newIds = new Map(renamed.map(({ from: id, to: newId }) => [id, newId]))
  expect(there.map(({ id }) => id)).toEqual(before.map(({ id }) => newIds.get(id)))
  await Promise.all([source.close(), target.close()])
}, 90_000)

it('moves all tasks from Redis to Kafka with their ids, although it is killed in between', async () => {
  const from = `${redis.url}?prefix=b`
  const to = `kafka://${kafka.address}?prefix=c&state=${redis.url}?prefix=c`
  const source = await openQueue(from)
  await fill(source)
  const before = (await all(source, 'pending')).sort(byNumber)
  const [ended] = await all(source, 'success')
  await run(from, to, 500)
  expect((await source.stats()).counts.pending).toBeGreaterThan(0)
  await run(from, to)
  const target = await openQueue(to)
  const there = await expectAllThere(source, target)
  const same = ({ id, createdAt, runAt, group, priority }: Task) => ({ id, createdAt, runAt, group, priority })
  expect(there.map(same)).toEqual(before.map(same))
  expect(await target.get([ended!.id])).toEqual([ended])
  await Promise.all([source.close(), target.close()])
}, 90_000)

it('moves all tasks from Kafka to Redis with their ids, and out of its topics', async () => {
  const [from, to] = [`kafka://${kafka.address}?prefix=d&state=${redis.url}?prefix=d`, `${redis.url}?prefix=e`]
  const source = await openQueue(from)
  await fill(source)
  const before = (await all(source, 'pending')).sort(byNumber)
  await run(from, to)
  const target = await openQueue(to)
  const there = await expectAllThere(source, target)
  expect(there.map(({ id }) => id)).toEqual(before.map(({ id }) => id))
  // What has moved does not come back with a state that was lost.
  redisCli(redis.port, 'EVAL', "for _, key in ipairs(redis.call('KEYS', 'd:*')) do redis.call('DEL', key) end", '0')
  const patience = { timeout: 30_000, interval: 100 }
  await vi.waitFor(async () => expect((await source.stats()).counts.canceled).toBe(TASKS), patience)
  const check = async () => (await source.health()).checks.find(({ name }) => name === 'state')
  await vi.waitFor(async () => expect(await check()).toMatchObject({ ok: true }), patience)
  expect((await source.stats()).counts).toMatchObject({ pending: 0, canceled: TASKS, success: 1 })
  await Promise.all([source.close(), target.close()])
}, 90_000)

/** Two that come first, one that waits for both, one for that one, and one that waits for a retry. */
async function fillFlow(queue: Queue): Promise<Task[]> {
  for (const type of WORKER.types) await queue.configureType(type, { declared: true })
  const specs = [
    { type: 'mail', payload: 'ended' },
    { type: 'image', payload: 'first' },
    { type: 'mail', payload: 'join', after: [0, 1], batch: 'flow' },
    { type: 'image', payload: 'last', after: [2] },
    { type: 'mail', payload: 'failed', priority: 5, maxRetry: 0 },
    { type: 'mail', payload: 'in vain', after: [4], onFailure: 'wait' as const },
  ]
  const tasks = (await queue.submit(specs.map((spec) => completeSpec(spec)))).map(({ task }) => task)
  const { leases } = await queue.turn({ worker: WORKER, types: ['mail'], want: 2 })
  const outcomes = leases.map(({ lease, task }) => {
    const success = { kind: 'success', result: task.payload } as const
    const failure = { kind: 'failure', error: 'no', retry: false, delayMs: null } as const
    return { lease, outcome: task.payload === 'failed' ? failure : success }
  })
  await queue.turn({ worker: WORKER, want: 0, outcomes, leaving: true })
  return tasks
}

async function next(queue: Queue) {
  const { leases } = await queue.turn({ worker: WORKER, want: 9 })
  const outcomes = leases.map(({ lease, task }) => {
    return { lease, outcome: { kind: 'success', result: task.payload } as const }
  })
  await queue.turn({ worker: WORKER, want: 0, outcomes })
  return leases.map(({ task, predecessors }) => [task.payload, predecessors.map(({ result }) => result)])
}

it('moves dependent tasks, and reports what it cannot move', async () => {
  const [from, to] = [`sqlite:${folder}/flow.db`, `${redis.url}?prefix=flow`]
  const source = await openQueue(from)
  const tasks = await fillFlow(source)
  const found = (await run(from, to)).map((line) => JSON.parse(line))
  expect(found.flatMap(({ withoutResults }) => withoutResults ?? [])).toEqual([tasks[2]!.id])
  expect(found.flatMap(({ left }) => left ?? [])).toEqual([tasks[5]!.id])
  expect((await source.stats()).counts).toMatchObject({ pending: 1, canceled: 3 })
  const target = await openQueue(to)
  expect(await target.batch('flow')).toMatchObject({ counts: { pending: 1 } })
  expect(await next(target)).toEqual([['first', []]])
  expect(await next(target)).toEqual([['join', ['first']]])
  expect(await next(target)).toEqual([['last', ['join']]])
  await Promise.all([source.close(), target.close()])
}, 90_000)

it('moves dependent tasks with their predecessors if tasks keep their ids', async () => {
  const [from, to] = [`${redis.url}?prefix=flow2`, `${redis.url}?prefix=flow3`]
  const source = await openQueue(from)
  const tasks = await fillFlow(source)
  const found = (await run(from, to)).map((line) => JSON.parse(line))
  expect(found.filter((line) => line.left || line.withoutResults || line.renamed)).toEqual([])
  const target = await openQueue(to)
  expect(await next(target)).toEqual([['first', []]])
  expect(await next(target)).toEqual([['join', ['ended', 'first']]])
  expect(await next(target)).toEqual([['last', ['join']]])
  await target.retry({ ids: [tasks[4]!.id] })
  expect(await next(target)).toEqual([['failed', []]])
  expect(await next(target)).toEqual([['in vain', ['failed']]])
  await Promise.all([source.close(), target.close()])
}, 90_000)

it.each([
  ['a file', 'Redis', `sqlite:${folder}/ended.db`, () => `${redis.url}?prefix=ended`, 0],
  ['Redis', 'a file', () => `${redis.url}?prefix=ended2`, `sqlite:${folder}/ended2.db`, 0],
  ['Redis', 'Redis', () => `${redis.url}?prefix=ended3`, () => `${redis.url}?prefix=ended4`, 2],
])(
  'reports from %s to %s how many ended tasks it copied, and how many it did not',
  async (_, __, from, to, copied) => {
    const [sourceUrl, targetUrl] = [from, to].map((url) => (typeof url === 'string' ? url : url())) as [string, string]
    const source = await openQueue(sourceUrl)
    await fillFlow(source)
    const lines = (await run(sourceUrl, targetUrl)).map((line) => JSON.parse(line))
    expect(lines.findLast((line) => 'copied' in line)).toEqual({ copied, notCopied: 2 - copied })
    const target = await openQueue(targetUrl)
    const { success, failed } = (await target.stats()).counts
    expect(success + failed).toBe(copied)
    await Promise.all([source.close(), target.close()])
  },
  90_000,
)
