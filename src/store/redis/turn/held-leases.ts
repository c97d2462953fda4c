import { type Ending, type Outcome, type Settlement, settle } from '../../../task/outcome.ts'
import { keepPayloadText } from '../../../task/payload-text.ts'
import { isFinal } from '../../../task/status.ts'
import type { Task } from '../../../task/task.ts'
import type { Lease, StoreOptions, Turn } from '../../store.ts'
import type { Database } from '../client/database.ts'
import {
  type FoundReply,
  type LeaseState,
  leaseOf,
  lostLeasesOf,
  predecessorsOf,
  readFound,
  taskOfParts,
  typeOfLane,
} from '../records/rows.ts'
import type { Registry } from '../types/registry.ts'
import { heldOf, type LeaseEnd, readTasks } from './turn-codec.ts'

const STARTED_MAX = 100_000

/** A worker's report about a lease. */
export interface Reported {
  lease: string
  outcome: Outcome
}

/** The next state of its task, decided on the known state of its lease. */
export interface Decision {
  state: LeaseState
  settlement: LeaseEnd
}

/**
 * This process's knowledge of leases. Outcomes are decided here, by the one rule that all stores share, and Redis
 * applies a decision only if the lease has not changed since.
 */
export class HeldLeases {
  readonly #database: Database
  readonly #registry: Registry
  readonly #options: StoreOptions
  /** Leases that this process started, by token: settling need not read them first. */
  readonly #started = new Map<string, LeaseState>()

  constructor(database: Database, registry: Registry, options: StoreOptions) {
    this.#database = database
    this.#registry = registry
    this.#options = options
  }

  /** The next state of each task; null where the lease is no longer held. */
  async decide(outcomes: readonly Reported[]): Promise<(Decision | null)[]> {
    const unknown = outcomes.filter(({ lease }) => !this.#started.has(lease))
    const found = unknown.length === 0 ? null : await this.#find(unknown.map(({ lease }) => lease))
    const states = outcomes.map(({ lease }) => this.#started.get(lease) ?? found?.get(lease) ?? null)
    const failing = states.flatMap((state, index) =>
      state && outcomes[index]!.outcome.kind !== 'success' ? [typeOfLane(state.lane)] : [],
    )
    if (failing.length > 0) await this.#registry.know(failing)
    const now = this.#database.now()
    return outcomes.map(({ outcome }, index) => {
      const state = states[index]
      if (!state) return null
      return { state, settlement: this.settlementOf(state, outcome, now) }
    })
  }

  settlementOf(state: LeaseState, ending: Ending, now: number): LeaseEnd {
    const { delaysMs, jitter } = this.#registry.policy(typeOfLane(state.lane))
    const policy = { delaysMs, jitter, lostLeasesMax: this.#options.lostLeasesMax }
    const settlement = settle(state, ending, policy, now, this.#options.random())
    return 'usage' in ending && ending.usage ? { ...settlement, usage: ending.usage } : settlement
  }

  /** Leases that another process started, or that this one knows to have changed. */
  async #find(tokens: readonly string[]): Promise<Map<string, LeaseState>> {
    const found = new Map<string, LeaseState>()
    const byPartition = Map.groupBy(
      tokens.flatMap((token) => {
        const held = heldOf(token)
        return held ? [{ token, ...held }] : []
      }),
      ({ partition }) => partition,
    )
    for (const [partition, leases] of byPartition) {
      const args = ['1', leases.length, ...leases.map(({ ref }) => ref)]
      const answers = await this.#database.run<(FoundReply | null)[]>('get', partition, args)
      answers.forEach((answer, index) => {
        const { token, ref, fence } = leases[index]!
        const task = answer && readFound(answer)
        if (task?.where !== 'running') return
        const state = { partition, ref, lane: task.lane, ...leaseOf(task.text) }
        if (state.fence === fence) found.set(token, state)
      })
    }
    return found
  }

  /** A lease of this process was settled. */
  ended(lease: string, { attempts, lane, startedAt }: LeaseState, settlement: Settlement): void {
    this.#started.delete(lease)
    const final = isFinal(settlement.status)
    if (final || settlement.attempts > attempts) {
      this.#registry.rates.ended(typeOfLane(lane), settlement.status, this.#database.now() - startedAt)
    }
  }

  /** The cached state of a lease is out of date. */
  forget(lease: string): void {
    this.#started.delete(lease)
  }

  /** Reads the tasks of an answer: this process holds their leases from now on. */
  start(
    partition: number,
    answer: readonly (string | number)[],
    { worker: { id: workerId }, forwards = false }: Turn,
    leaseMs: number,
    now: number,
    secret: string,
  ): Lease[] {
    // Leases that were lost elsewhere stay in this process's memory, so the cache is cleared; it can be read again.
    if (this.#started.size > STARTED_MAX) this.#started.clear()
    const leases: Lease[] = []
    readTasks(answer, (ref, lane, head, payload, extras, error, outcomes, isPlain) => {
      const task = taskOfParts(partition, ref, lane, head, payload, extras, error)
      if (forwards) keepPayloadText(task, payload)
      const lostLeases = isPlain ? 0 : lostLeasesOf(head)
      const predecessors = predecessorsOf(task.after, outcomes)
      const known = { partition, ref, lane, workerId, lostLeases }
      const started = this.#start(task, known, leaseMs, now, secret, isPlain)
      leases.push({ ...started, predecessors })
    })
    return leases
  }

  #start(
    task: Task,
    known: Pick<LeaseState, 'partition' | 'ref' | 'lane' | 'workerId' | 'lostLeases'>,
    leaseMs: number,
    now: number,
    secret: string,
    isPlain: boolean,
  ): Omit<Lease, 'predecessors'> {
    const { id, type, attempts, maxRetry, runAt, processTimeoutMs } = task
    task.status = 'processing'
    task.deliveries += 1
    task.startedAt = now
    task.updatedAt = now
    task.workerId = known.workerId
    const fence = `${task.deliveries}${secret}`
    const lease = `${id}.${fence}`
    const deadlineAt = processTimeoutMs === 0 ? null : now + processTimeoutMs
    const expiresAt = now + leaseMs
    const running = { attempts, maxRetry, runAt, deadlineAt, cancelRequested: false }
    const state: LeaseState = { ...known, ...running, fence, startedAt: now, expiresAt }
    if (isPlain) state.plain = `${fence}|0|0|${deadlineAt ?? 0}|${leaseMs}|`
    this.#started.set(lease, state)
    this.#registry.rates.started(type, now - runAt)
    const local = (time: number) => this.#database.toLocal(time)
    return { lease, expiresAt: local(expiresAt), deadlineAt: deadlineAt === null ? null : local(deadlineAt), task }
  }
}
