import { expect } from 'vitest'
import type { Lease, LimitChange, Queue } from '../../src/queue/queue.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { familyOf, laneOf, type Uses } from '../../src/task/uses.ts'

const TYPES = ['t', 'u', 'v']
const LIMITS = ['a', 'b', 'k/*']
const USED = ['a', 'b', 'k/1', 'k/2', 'k/3']
const WORKER = { id: 'r', host: 'h', pid: 1, types: TYPES, concurrency: 99, startedAt: 0 }
const HOLD_MS = 1_000
const RETRY = { baseMs: 300, factor: 1, capMs: 300, jitter: 0 }
const HANDLER = { rate: null, retry: RETRY, payloadSchema: null, defaults: {} }

interface Limit {
  max: number | null
  rate: { max: number; perMs: number } | null
  paused: boolean
  heldUntil: number
}

interface ModelTask {
  id: string
  type: string
  priority: number
  group: string | null
  uses: Uses
  state: 'delayed' | 'ready' | 'running' | 'ended'
  runAt: number
  order: number
  retries: number
}

interface Start {
  name: string
  at: number
  units: number
}

/** The expected state: a list of tasks, and for each task the reasons why it may not start. */
class LimitsModel {
  now = 1_700_000_000_000
  readonly tasks: ModelTask[] = []
  readonly held = new Map<string, { task: ModelTask; starts: Start[] }>()
  readonly limits = new Map<string, Limit>()
  readonly holdsOfKeys = new Map<string, number>()
  readonly types = new Map<string, { max: number | null; group: number | null; paused: boolean }>()
  readonly groups = new Map<string, number | null>()
  starts: Start[] = []

  /** Why a task may not start, or null. */
  obstacle({ type, group, uses }: ModelTask): string | null {
    const { max, group: common, paused } = this.types.get(type)!
    const running = [...this.held.values()].map(({ task }) => task)
    const ofType = running.filter((task) => task.type === type)
    if (paused) return 'its type is paused'
    if (max !== null && ofType.length >= max) return 'the limit of its type'
    const own = this.groups.get(`${type}/${group}`)
    const most = own === undefined ? common : own
    if (group !== null && most !== null && ofType.filter((task) => task.group === group).length >= most) {
      return 'the limit of its group'
    }
    for (const [name, units] of Object.entries(uses)) {
      const { limit, heldUntil } = this.#inForce(name)
      if (limit.paused || heldUntil > this.now) return `${name} is closed`
      const inUse = running.reduce((sum, task) => sum + (task.uses[name] ?? 0), 0)
      if (limit.max !== null && inUse + units > limit.max) return `${name} has ${inUse} of ${limit.max} in use`
      const { rate } = limit
      const counting = this.starts.filter((start) => start.name === name && rate && start.at + rate.perMs > this.now)
      const counted = counting.reduce((sum, start) => sum + start.units, 0)
      if (rate && counted + units > rate.max) return `the rate of ${name} has ${counted} of ${rate.max}`
    }
    return null
  }

  start({ lease, task: { id, uses, group } }: Lease): void {
    const task = this.tasks.find((one) => one.id === id)!
    expect(task).toMatchObject({ state: 'ready', uses, group })
    expect(this.obstacle(task)).toBeNull()
    const starts = Object.entries(task.uses).flatMap(([name, units]) => {
      return this.#inForce(name).limit.rate ? [{ name, at: this.now, units }] : []
    })
    this.starts.push(...starts)
    this.held.set(lease, { task, starts })
    task.state = 'running'
  }

  /** Delays have passed. */
  wake(): void {
    for (const task of this.tasks) if (task.state === 'delayed' && task.runAt <= this.now) task.state = 'ready'
  }

  /** The next task of each lane. */
  heads(types: readonly string[], groups: readonly string[] | undefined): ModelTask[] {
    const ready = this.tasks.filter(({ state, type, group }) => {
      return state === 'ready' && types.includes(type) && (!groups || groups.includes(group ?? ''))
    })
    ready.sort((a, b) => a.runAt - b.runAt || a.order - b.order)
    const byLane = Map.groupBy(ready, ({ type, priority, group, uses }) => `${type} ${priority} ${laneOf(group, uses)}`)
    return [...byLane.values()].map(([first]) => first!)
  }

  #inForce(name: string): { limit: Limit; heldUntil: number } {
    const own = this.limits.get(name)
    if (own) return { limit: own, heldUntil: own.heldUntil }
    const limit = this.limits.get(familyOf(name)!)!
    return { limit, heldUntil: Math.max(limit.heldUntil, this.holdsOfKeys.get(name) ?? 0) }
  }
}

/** A random sequence of operations with limits of every kind, by its seed. */
export class RandomLimits {
  readonly model = new LimitsModel()
  readonly #random: () => number
  #queue!: Queue

  constructor(seed: number) {
    let state = seed
    this.#random = () => {
      state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9
      return ((state ^ (state >>> 12)) >>> 0) / 2 ** 32
    }
  }

  async run(queue: Queue, steps: number): Promise<void> {
    this.#queue = queue
    await this.#prepare()
    const acts = [this.#submit, this.#claim, this.#claim, this.#end, this.#end, this.#cancel, this.#change, this.#wait]
    for (let step = 0; step < steps; step++) await this.#pick(acts).call(this)
    await this.#drain()
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count)
  }

  #pick<T>(of: readonly T[]): T {
    return of[this.#below(of.length)]!
  }

  async #prepare(): Promise<void> {
    for (const type of TYPES) {
      const [group, max] = [this.#pick([null, 1, 2]), this.#pick([null, null, 3])]
      this.model.types.set(type, { max, group, paused: false })
      const groupTurns = this.#pick(['tasks', 'time'] as const)
      const handler = { ...HANDLER, maxConcurrency: max, groupConcurrency: group, groupTurns }
      await this.#queue.configureType(type, { handler })
    }
    for (const name of LIMITS) {
      const rate = this.#pick([null, null, { max: 3 + this.#below(4), perMs: 2_000 }])
      const max = this.#pick([null, 2, 3, 4])
      this.model.limits.set(name, { max, rate, paused: false, heldUntil: 0 })
      await this.#queue.configureLimit(name, { max, rate })
    }
  }

  async #submit(): Promise<void> {
    const { model } = this
    const specs = Array.from({ length: 1 + this.#below(4) }, (): TaskSpec => {
      const some = USED.filter(() => this.#random() < 0.25)
      const uses = Object.fromEntries(some.map((name) => [name, 1 + this.#below(2)]))
      const [type, group] = [this.#pick(TYPES), this.#pick([null, null, 'g', 'h'])]
      return completeSpec({ type, group, uses, priority: this.#pick([0, 0, 5]), delayMs: this.#pick([0, 0, 0, 500]) })
    })
    // Units that a limit never allows are refused as a whole.
    const submitted = await this.#queue.submit(specs).catch((error: { code: string }) => {
      expect(error.code).toBe('invalid_request')
      return []
    })
    for (const [index, { task }] of submitted.entries()) {
      const { type, priority, group, uses, delayMs } = specs[index]!
      const state = delayMs > 0 ? 'delayed' : 'ready'
      const order = model.tasks.length
      model.tasks.push({ id: task.id, type, priority, group, uses, state, runAt: task.runAt, order, retries: 0 })
    }
  }

  /** Whatever is left after a claim that wanted more has something in its way. */
  async #claim(): Promise<void> {
    const { model } = this
    model.wake()
    const want = this.#pick([1, 2, 99])
    const types = this.#pick([TYPES, TYPES, [this.#pick(TYPES)]])
    const groups = this.#pick([undefined, undefined, undefined, ['g']])
    const { leases } = await this.#queue.turn({ worker: WORKER, want, types, ...(groups ? { groups } : {}) })
    for (const lease of leases) model.start(lease)
    if (leases.length === want) return
    for (const task of model.heads(types, groups)) expect(model.obstacle(task), JSON.stringify(task)).not.toBeNull()
  }

  async #end(): Promise<void> {
    const { model } = this
    const [lease] = model.held.size > 0 ? [this.#pick([...model.held.keys()])] : []
    if (lease === undefined) return
    const { task, starts } = model.held.get(lease)!
    model.held.delete(lease)
    const used = Object.keys(task.uses)
    const kind = this.#pick(['success', 'usage', 'failure', 'retry', 'released', ...(used.length > 0 ? ['held'] : [])])
    task.state = kind === 'released' || kind === 'held' ? 'ready' : 'ended'
    const settle = (outcome: object) =>
      this.#queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease, outcome: outcome as never }] })
    if (kind === 'success' || kind === 'released') await settle({ kind, result: null })
    if (kind === 'usage') {
      const usage = Object.fromEntries(used.map((name) => [name, this.#below(4)]))
      for (const start of starts) start.units = usage[start.name]!
      await settle({ kind: 'success', result: null, usage })
    }
    if (kind === 'failure' || kind === 'retry') {
      await settle({ kind: 'failure', error: 'no', retry: kind === 'retry', delayMs: null })
    }
    if (kind === 'retry' && task.retries++ < 3)
      Object.assign(task, { state: 'delayed', runAt: model.now + RETRY.baseMs })
    if (kind === 'held') {
      const name = this.#pick(used)
      const until = model.now + HOLD_MS
      const own = model.limits.get(name)
      if (own) own.heldUntil = Math.max(own.heldUntil, until)
      else model.holdsOfKeys.set(name, Math.max(model.holdsOfKeys.get(name) ?? 0, until))
      await settle({ kind, error: 'no', holdMs: HOLD_MS, limit: name })
    }
  }

  async #cancel(): Promise<void> {
    const waiting = this.model.tasks.filter(({ state }) => state === 'ready' || state === 'delayed')
    if (waiting.length === 0) return
    const task = this.#pick(waiting)
    task.state = 'ended'
    await this.#queue.cancel({ ids: [task.id] })
  }

  async #change(): Promise<void> {
    const { model } = this
    const name = this.#pick(LIMITS)
    const limit = model.limits.get(name)!
    const set = async (change: LimitChange) => {
      await this.#queue.configureLimit(name, change)
    }
    switch (this.#below(5)) {
      case 0:
        limit.paused = !limit.paused
        return set({ paused: limit.paused })
      case 1:
        limit.max = this.#pick([null, 2, 3, 4])
        return set({ max: limit.max })
      case 2: {
        const holdMs = this.#pick([0, HOLD_MS])
        limit.heldUntil = holdMs === 0 ? 0 : model.now + holdMs
        return set({ holdMs })
      }
      case 3: {
        const type = this.#pick(TYPES)
        const settings = model.types.get(type)!
        settings.paused = !settings.paused
        await this.#queue.configureType(type, { paused: settings.paused })
        return
      }
      case 4: {
        const group = `${this.#pick(TYPES)}/g`
        const max = this.#pick([null, 1, 2])
        model.groups.set(group, max)
        await this.#queue.configureLimit(`group:${group}`, { max })
      }
    }
  }

  async #wait(): Promise<void> {
    this.model.now += this.#pick([1, 100, 700, 3_000])
    if (this.#random() < 0.3) await this.#queue.sweep(1_000)
  }

  /** Opens everything: each task runs, and nothing is in use at the end. */
  async #drain(): Promise<void> {
    const { model } = this
    model.now += 10_000
    for (const name of LIMITS) {
      model.limits.set(name, { max: 9, rate: null, paused: false, heldUntil: 0 })
      await this.#queue.configureLimit(name, { max: 9, rate: null, paused: false, holdMs: 0 })
    }
    for (const [type, settings] of model.types) {
      settings.paused = false
      await this.#queue.configureType(type, { paused: false })
    }
    for (;;) {
      model.wake()
      const leases = [...model.held.keys()].slice(0, 3)
      const outcomes = leases.map((lease) => ({ lease, outcome: { kind: 'success', result: null } as const }))
      for (const lease of leases) {
        model.held.get(lease)!.task.state = 'ended'
        model.held.delete(lease)
      }
      const answer = await this.#queue.turn({ worker: WORKER, want: 3, outcomes })
      for (const lease of answer.leases) model.start(lease)
      if (answer.leases.length === 0 && model.held.size === 0) break
    }
    expect(model.tasks.filter(({ state }) => state !== 'ended')).toEqual([])
    for (const { name, inUse, waiting } of await this.#queue.limits({ names: USED })) {
      expect({ name, inUse, waiting }).toEqual({ name, inUse: 0, waiting: 0 })
    }
  }
}
