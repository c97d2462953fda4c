import fc from 'fast-check'
import { expect } from 'vitest'
import { QUEUE_DEFAULTS, type Queue, type Rate, type WorkerIdentity } from '../../src/queue/queue.ts'
import { effectOf, ON_FAILURE, type OnFailure } from '../../src/task/flow.ts'
import { type FinalStatus, isFinal, type Status } from '../../src/task/status.ts'
import { completeSpec } from '../../src/task/task.ts'

const LEASE_MS = 1_000
const LOST_LEASES_MAX = QUEUE_DEFAULTS.lostLeasesMax
const WORKER: WorkerIdentity = { id: 'r', host: 'h', pid: 1, types: ['t', 'u'], concurrency: 9, startedAt: 0 }

interface ModelTask {
  id: string
  type: string
  priority: number
  group: string | null
  order: number
  runAt: number
  status: Status
  lease: string | null
  expiresAt: number
  lost: number
  /** What it still waits for. */
  awaits: Set<ModelTask>
  onFailure: OnFailure
}

/** The types differ: of `t` the tasks have groups with a limit, of `u` their starts have a rate. */
const GROUP_LIMIT = 2
const RATE: Rate = { max: 3, perMs: 1_000 }

/** The expected state in the simplest form: an array of tasks and a limit per type. */
class Model {
  now = 1_700_000_000_000
  tasks: ModelTask[] = []
  limits: Record<string, number> = { t: 2, u: 2 }
  paused: Record<string, boolean> = { t: false, u: false }
  starts: number[] = []

  running(type: string): ModelTask[] {
    return this.tasks.filter((task) => task.type === type && task.status === 'processing')
  }

  /**
   * Which tasks of a type may run next: the first of each group whose turn it may be. Within one claim that is a group
   * that was served no more often than the others (`turns`); whose turn is first is not told here.
   */
  next(type: string, turns: Map<string, number>): ModelTask[] {
    const running = this.running(type)
    if (this.paused[type] || running.length >= this.limits[type]!) return []
    if (type === 'u' && this.starts.filter((at) => at > this.now - RATE.perMs).length >= RATE.max) return []
    const full = ({ group }: ModelTask) =>
      group !== null && running.filter((task) => task.group === group).length >= GROUP_LIMIT
    const ready = this.tasks.filter(
      (task) => task.type === type && task.status === 'pending' && task.awaits.size === 0 && task.runAt <= this.now,
    )
    const open = ready.filter((task) => !full(task))
    const first = Math.max(...open.map(({ priority }) => priority))
    const byAge = open.filter(({ priority }) => priority === first)
    byAge.sort((a, b) => a.runAt - b.runAt || a.order - b.order)
    const heads = byAge.filter((task, index) => byAge.findIndex(({ group }) => group === task.group) === index)
    const served = heads.map((task) => turns.get(placeOf(task)) ?? 0)
    return heads.filter((_, index) => served[index] === Math.min(...served))
  }

  /** A task ends, and its successors are informed. */
  end(task: ModelTask, status: FinalStatus): void {
    task.status = status
    for (const other of this.tasks) {
      if (!other.awaits.has(task)) continue
      const effect = effectOf(status, other.onFailure)
      if (effect === 'counts') other.awaits.delete(task)
      if (other.status !== 'pending') continue
      if (effect === 'cancels') this.end(other, 'canceled')
      else if (other.awaits.size === 0) other.runAt = Math.max(other.runAt, this.now)
    }
  }

  /** A lost lease gives its task back, but for the last one that it may lose. */
  loseLeases(): void {
    for (const task of this.tasks) {
      if (task.status !== 'processing' || task.expiresAt > this.now) continue
      task.lost += 1
      if (task.lost === LOST_LEASES_MAX) this.end(task, 'failed')
      else task.status = 'pending'
    }
  }
}

/** Handles everything that is due, and delivers messages between partitions. */
async function settled(model: Model, queue: Queue): Promise<void> {
  for (let again = true; again; ) {
    const { more, changed } = await queue.sweep(100)
    again = more || changed > 0
  }
  model.loseLeases()
}

function placeOf({ priority, group }: ModelTask): string {
  return `${priority} ${group}`
}

type Command = fc.AsyncCommand<Model, Queue>

/** Every command ends with the invariants that hold at every instant. */
function command(name: string, run: (model: Model, queue: Queue) => Promise<void>): Command {
  return {
    check: () => true,
    run: async (model, queue) => {
      await run(model, queue)
      await checkInvariants(model, queue)
    },
    toString: () => name,
  }
}

async function checkInvariants(model: Model, queue: Queue): Promise<void> {
  const stored = await queue.get(model.tasks.map(({ id }) => id))
  expect(stored.map((task) => task?.status)).toEqual(model.tasks.map(({ status }) => status))
  for (const info of await queue.types({ names: ['t', 'u'], holders: true })) {
    const running = model.running(info.type).map(({ id }) => id)
    expect(info.holders.map(({ taskId }) => taskId).sort()).toEqual(running.sort())
    expect(info.processing).toBe(running.length)
  }
}

const submit = fc
  .record({
    type: fc.constantFrom('t', 'u'),
    priority: fc.integer({ min: 0, max: 2 }),
    delayMs: fc.constantFrom(0, 0, 700),
    group: fc.constantFrom(null, 'a', 'b'),
    onFailure: fc.constantFrom(...ON_FAILURE),
    waitsFor: fc.oneof({ weight: 3, arbitrary: fc.constant<number[]>([]) }, fc.array(fc.nat(), { maxLength: 3 })),
  })
  .map(({ group, ...spec }) => ({ ...spec, group: spec.type === 't' ? group : null }))
  .map(({ waitsFor, ...spec }) =>
    command(`submit(${JSON.stringify({ ...spec, waitsFor })})`, async (model, queue) => {
      const named = new Set(
        model.tasks.length === 0 ? [] : waitsFor.map((pick) => model.tasks[pick % model.tasks.length]!),
      )
      const after = [...named].map(({ id }) => id)
      const { task } = (await queue.submit([completeSpec({ ...spec, after, maxRetry: 1 })]))[0]!
      const { type, priority, group } = spec
      const runAt = model.now + spec.delayMs
      const order = model.tasks.length
      const effects = [...named].map(({ status }) => (isFinal(status) ? effectOf(status, spec.onFailure) : 'waits'))
      const awaits = new Set([...named].filter((_, index) => effects[index] !== 'counts'))
      const waiting = {
        status: 'pending',
        lease: null,
        expiresAt: 0,
        lost: 0,
        awaits,
        onFailure: spec.onFailure,
      } as const
      const added: ModelTask = { id: task.id, type, priority, group, order, runAt, ...waiting }
      model.tasks.push(added)
      if (effects.includes('cancels')) model.end(added, 'canceled')
      await settled(model, queue)
    }),
  )

const claim = fc
  .record({ type: fc.constantFrom('t', 'u'), want: fc.integer({ min: 1, max: 4 }) })
  .map(({ type, want }) =>
    command(`claim(${type}, ${want})`, async (model, queue) => {
      const { leases } = await queue.turn({ worker: WORKER, types: [type], want, leaseMs: LEASE_MS })
      const turns = new Map<string, number>()
      for (const { lease, task } of leases) {
        const next = model.next(type, turns)
        expect(next.map(({ id }) => id)).toContain(task.id)
        const started = next.find(({ id }) => id === task.id)!
        Object.assign(started, { status: 'processing', lease, expiresAt: model.now + LEASE_MS })
        turns.set(placeOf(started), (turns.get(placeOf(started)) ?? 0) + 1)
        if (type === 'u') model.starts.push(model.now)
      }
      if (leases.length < want) expect(model.next(type, turns)).toEqual([])
    }),
  )

const settle = fc.record({ pick: fc.nat(), ok: fc.boolean() }).map(({ pick, ok }) =>
  command(`settle(${pick}, ${ok})`, async (model, queue) => {
    const task = model.tasks[pick % Math.max(model.tasks.length, 1)]
    if (!task?.lease) return
    const outcome = ok
      ? ({ kind: 'success', result: pick } as const)
      : ({ kind: 'failure', error: 'x', retry: false, delayMs: null } as const)
    // In the same millisecond as a submission, what it makes ready may go before or behind that.
    model.now += 1
    model.loseLeases()
    await settled(model, queue)
    const answer = await queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease: task.lease, outcome }] })
    // The last lease is kept in the model, so it is also tried after it was lost or settled.
    const held = task.status === 'processing'
    expect(answer.settled[0]!.accepted).toBe(held)
    if (held) model.end(task, ok ? 'success' : 'failed')
    await settled(model, queue)
  }),
)

const cancel = fc.nat().map((pick) =>
  command(`cancel(${pick})`, async (model, queue) => {
    const task = model.tasks[pick % Math.max(model.tasks.length, 1)]
    if (!task || task.status === 'processing') return
    model.now += 1
    await settled(model, queue)
    const { results } = await queue.cancel({ ids: [task.id] })
    expect(results[0]!.outcome).toBe(task.status === 'pending' ? 'changed' : 'refused')
    if (task.status === 'pending') model.end(task, 'canceled')
    await settled(model, queue)
  }),
)

const retry = fc.nat().map((pick) =>
  command(`retry(${pick})`, async (model, queue) => {
    const task = model.tasks[pick % Math.max(model.tasks.length, 1)]
    if (!task) return
    // In the same millisecond as a submission it may go before or behind it.
    model.now += 1
    await settled(model, queue)
    const { results } = await queue.retry({ ids: [task.id] })
    const allowed = task.status === 'failed' || task.status === 'canceled'
    expect(results[0]!.outcome).toBe(allowed ? 'changed' : 'refused')
    if (allowed) Object.assign(task, { status: 'pending', runAt: model.now, lost: 0 })
  }),
)

const configure = fc
  .record({ type: fc.constantFrom('t', 'u'), limit: fc.integer({ min: 1, max: 4 }), paused: fc.boolean() })
  .map(({ type, limit, paused }) =>
    command(`configure(${type}, ${limit}, ${paused})`, async (model, queue) => {
      await queue.configureType(type, { maxConcurrency: limit, paused })
      model.limits[type] = limit
      model.paused[type] = paused
    }),
  )

const pass = fc.constantFrom(1, 300, 1_000).map((ms) =>
  command(`pass(${ms})`, async (model, queue) => {
    model.now += ms
    await settled(model, queue)
  }),
)

/** Each task: its changes are legal, in order, and as many final ones as it was retried and ended. */
async function checkHistory(model: Model, queue: Queue): Promise<void> {
  const history = new Map<string, Status[]>()
  let after = ''
  for (;;) {
    const { events, last } = await queue.events({ after, max: 1_000 })
    if (events.length === 0) break
    for (const { taskId, status } of events) history.set(taskId, [...(history.get(taskId) ?? []), status])
    after = last
  }
  for (const { id, status } of model.tasks) {
    const changes = history.get(id)!
    expect(changes[0]).toBe('pending')
    expect(changes.at(-1)).toBe(status)
    changes.forEach((change, index) => {
      // After a final status only an explicit retry goes on.
      if (index > 0 && isFinal(changes[index - 1]!)) expect(change).toBe('pending')
    })
  }
}

export const randomRun = {
  commands: [submit, submit, claim, claim, settle, settle, cancel, retry, configure, pass],
  model: () => new Model(),
  prepare: (queue: Queue, type: string) => {
    const more = type === 't' ? { groupConcurrency: GROUP_LIMIT } : { rate: RATE }
    return queue.configureType(type, { declared: true, maxConcurrency: 2, ...more })
  },
  checkHistory,
}
