import fc from 'fast-check'
import { expect } from 'vitest'
import { ENGINE_DEFAULTS, type Engine, type WorkerIdentity } from '../../src/engine/engine.ts'
import type { Status } from '../../src/task/status.ts'
import { completeSpec } from '../../src/task/task.ts'

const LEASE_MS = 1_000
const LOST_LEASES_MAX = ENGINE_DEFAULTS.lostLeasesMax
const WORKER: WorkerIdentity = { id: 'r', host: 'h', pid: 1, types: ['t', 'u'], concurrency: 9, startedAt: 0 }

interface ModelTask {
  id: string
  type: string
  priority: number
  order: number
  runAt: number
  status: Status
  lease: string | null
  expiresAt: number
  lost: number
}

/** What an engine must hold, in the plainest form: an array of tasks and a limit per type. */
class Model {
  now = 1_700_000_000_000
  tasks: ModelTask[] = []
  limits: Record<string, number> = { t: 2, u: 2 }
  paused: Record<string, boolean> = { t: false, u: false }

  running(type: string): ModelTask[] {
    return this.tasks.filter((task) => task.type === type && task.status === 'processing')
  }

  /** Who runs next of a type, as many as its permits allow. */
  next(type: string, want: number): ModelTask[] {
    if (this.paused[type]) return []
    const ready = this.tasks.filter((task) => task.type === type && task.status === 'pending' && task.runAt <= this.now)
    ready.sort((a, b) => b.priority - a.priority || a.runAt - b.runAt || a.order - b.order)
    return ready.slice(0, Math.max(0, Math.min(want, this.limits[type]! - this.running(type).length)))
  }
}

type Command = fc.AsyncCommand<Model, Engine>

/** Every command ends with the invariants that hold at every instant. */
function command(name: string, run: (model: Model, engine: Engine) => Promise<void>): Command {
  return {
    check: () => true,
    run: async (model, engine) => {
      await run(model, engine)
      await checkInvariants(model, engine)
    },
    toString: () => name,
  }
}

async function checkInvariants(model: Model, engine: Engine): Promise<void> {
  const stored = await engine.get(model.tasks.map(({ id }) => id))
  expect(stored.map((task) => task?.status)).toEqual(model.tasks.map(({ status }) => status))
  for (const info of await engine.types({ names: ['t', 'u'], holders: true })) {
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
  })
  .map((spec) =>
    command(`submit(${JSON.stringify(spec)})`, async (model, engine) => {
      const { task } = (await engine.submit([completeSpec({ ...spec, maxRetry: 1 })]))[0]!
      const { type, priority } = spec
      const runAt = model.now + spec.delayMs
      const order = model.tasks.length
      const waiting = { status: 'pending', lease: null, expiresAt: 0, lost: 0 } as const
      model.tasks.push({ id: task.id, type, priority, order, runAt, ...waiting })
    }),
  )

const claim = fc
  .record({ type: fc.constantFrom('t', 'u'), want: fc.integer({ min: 1, max: 4 }) })
  .map(({ type, want }) =>
    command(`claim(${type}, ${want})`, async (model, engine) => {
      const expected = model.next(type, want)
      const { leases } = await engine.turn({ worker: WORKER, types: [type], want, leaseMs: LEASE_MS })
      expect(leases.map(({ task }) => task.id)).toEqual(expected.map(({ id }) => id))
      expected.forEach((task, index) => {
        Object.assign(task, { status: 'processing', lease: leases[index]!.lease, expiresAt: model.now + LEASE_MS })
      })
    }),
  )

const settle = fc.record({ pick: fc.nat(), ok: fc.boolean() }).map(({ pick, ok }) =>
  command(`settle(${pick}, ${ok})`, async (model, engine) => {
    const task = model.tasks[pick % Math.max(model.tasks.length, 1)]
    if (!task?.lease) return
    const outcome = ok
      ? ({ kind: 'success', result: pick } as const)
      : ({ kind: 'failure', error: 'x', retry: false, delayMs: null } as const)
    const { settled } = await engine.turn({ worker: WORKER, want: 0, outcomes: [{ lease: task.lease, outcome }] })
    // The last lease is kept in the model, so it is also tried after it was lost or settled.
    const held = task.status === 'processing'
    expect(settled[0]!.accepted).toBe(held)
    if (held) task.status = ok ? 'success' : 'failed'
  }),
)

const cancel = fc.nat().map((pick) =>
  command(`cancel(${pick})`, async (model, engine) => {
    const task = model.tasks[pick % Math.max(model.tasks.length, 1)]
    if (!task || task.status === 'processing') return
    const { results } = await engine.cancel({ ids: [task.id] })
    expect(results[0]!.outcome).toBe(task.status === 'pending' ? 'changed' : 'refused')
    if (task.status === 'pending') task.status = 'canceled'
  }),
)

const retry = fc.nat().map((pick) =>
  command(`retry(${pick})`, async (model, engine) => {
    const task = model.tasks[pick % Math.max(model.tasks.length, 1)]
    if (!task) return
    // In the same millisecond as a submission it may go before or behind it.
    model.now += 1
    const { results } = await engine.retry({ ids: [task.id] })
    const allowed = task.status === 'failed' || task.status === 'canceled'
    expect(results[0]!.outcome).toBe(allowed ? 'changed' : 'refused')
    if (allowed) Object.assign(task, { status: 'pending', runAt: model.now, lost: 0 })
  }),
)

const configure = fc
  .record({ type: fc.constantFrom('t', 'u'), limit: fc.integer({ min: 1, max: 4 }), paused: fc.boolean() })
  .map(({ type, limit, paused }) =>
    command(`configure(${type}, ${limit}, ${paused})`, async (model, engine) => {
      await engine.configureType(type, { maxConcurrency: limit, paused })
      model.limits[type] = limit
      model.paused[type] = paused
    }),
  )

const pass = fc.constantFrom(1, 300, 1_000).map((ms) =>
  command(`pass(${ms})`, async (model, engine) => {
    model.now += ms
    while ((await engine.sweep(100)).more);
    // A lost lease gives its task back, but for the last one that it may lose.
    for (const task of model.tasks) {
      if (task.status !== 'processing' || task.expiresAt > model.now) continue
      task.lost += 1
      task.status = task.lost === LOST_LEASES_MAX ? 'failed' : 'pending'
    }
  }),
)

/** Each task: its changes are legal, in order, and as many final ones as it was retried and ended. */
async function checkHistory(model: Model, engine: Engine, isFinal: (status: Status) => boolean): Promise<void> {
  const history = new Map<string, Status[]>()
  let after = ''
  for (;;) {
    const { events, last } = await engine.events({ after, max: 1_000 })
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
  checkHistory,
}
