import { randomUUID } from 'node:crypto'
import { isFinal } from '../../task/status.ts'
import type { TaskSpec } from '../../task/task.ts'
import type { EngineOptions } from '../engine.ts'
import type { Remembered, State } from '../state.ts'
import type { Log } from './log.ts'
import { acceptedOf, outcomeOf } from './records.ts'
import { READER } from './relay.ts'
import type { SchedulesLog } from './schedules-log.ts'
import type { Topics } from './topics.ts'
import type { TypesLog } from './types-log.ts'

const LEASE_MS = 10_000
const RENEW_MS = 2_000
const BATCH = 500
/** Records carry the time of whoever wrote them; clocks of two machines are no further apart. */
const SKEW_MAX_MS = 300_000

/** What the log tells of tasks: those that have not ended, and those that have. */
interface Told {
  open: Map<string, Remembered>
  ended: Map<string, Remembered>
}

/**
 * Brings back what a state has lost: types first, so that no limit is missing; then finished tasks, so that none of
 * them runs again; then, with their ids, those that have not ended; then schedules. It can be done any number of times.
 */
export class Restorer {
  readonly #state: State
  readonly #log: Log
  readonly #topics: Topics
  readonly #types: TypesLog
  readonly #schedules: SchedulesLog
  readonly #retention: EngineOptions['retention']
  readonly #clock: () => number
  readonly #accept: (specs: readonly TaskSpec[]) => Promise<unknown>
  readonly #owner = randomUUID()

  /** @param accept has tasks accepted anew, and written to the log */
  constructor(
    state: State,
    log: Log,
    topics: Topics,
    types: TypesLog,
    schedules: SchedulesLog,
    { retention, clock }: EngineOptions,
    accept: (specs: readonly TaskSpec[]) => Promise<unknown>,
  ) {
    this.#accept = accept
    this.#state = state
    this.#log = log
    this.#topics = topics
    this.#types = types
    this.#schedules = schedules
    this.#retention = retention
    this.#clock = clock
  }

  /** Whether the state is complete now; restores it if that is this process's to do. */
  async complete(): Promise<boolean> {
    const completeness = await this.#state.restoring(this.#owner, LEASE_MS)
    if (completeness !== 'mine') return completeness === 'complete'
    const lease = setInterval(() => {
      // Should it be lost, another one does the same, which does no harm.
      this.#state.restoring(this.#owner, LEASE_MS).catch(() => undefined)
    }, RENEW_MS)
    try {
      await this.#types.restore(this.#state)
      const { open, ended } = await this.#read()
      // One whose id belongs elsewhere is mended where its lane is watched, when the state accepts again.
      await this.#restore(this.#kept([...ended.values()]))
      await this.#restore([...open.values()].sort(byId))
      await this.#schedules.restore(this.#state)
      return (await this.#state.restoring(this.#owner, LEASE_MS, READER)) === 'complete'
    } finally {
      clearInterval(lease)
    }
  }

  /**
   * Tasks that the log knows and the state does not: takes back those that have not ended, answers the others. One
   * whose id belongs elsewhere is accepted anew, and counts as ended.
   */
  async mend(tasks: readonly Remembered[]): Promise<Set<string>> {
    if (tasks.length === 0) return new Set()
    const open = new Map(tasks.map((remembered) => [remembered.task.id, remembered]))
    const since = Math.min(...tasks.map(({ task }) => task.createdAt)) - SKEW_MAX_MS
    const { outcomes } = this.#topics
    const from = (await this.#log.offsetsAt([outcomes], BigInt(since))).get(outcomes) ?? new Map()
    // No record is that new: there is nothing to read.
    const known = new Map([...from].filter(([, offset]) => offset >= 0n))
    if (known.size > 0) await this.#readOutcomes({ open, ended: new Map() }, known)
    const foreign = await this.#restore([...open.values()].sort(byId))
    // Each under a key of its own, so that it is accepted once only.
    const specs = foreign.map(({ task, spec }) => {
      const idempotencyKey = spec.idempotencyKey ?? `xqueue:${task.id}`
      return { ...spec, runAt: task.runAt, delayMs: 0, idempotencyKey }
    })
    if (specs.length > 0) await this.#accept(specs)
    for (const { task } of foreign) open.delete(task.id)
    return new Set(tasks.flatMap(({ task }) => (open.has(task.id) ? [] : [task.id])))
  }

  /** Takes back what is not there; answers the unfinished whose ids belong elsewhere. */
  async #restore(tasks: readonly Remembered[]): Promise<Remembered[]> {
    const foreign: Remembered[] = []
    for (let from = 0; from < tasks.length; from += BATCH) {
      const some = tasks.slice(from, from + BATCH)
      const restored = await this.#state.restore(some)
      foreign.push(...some.filter(({ task }, index) => restored[index] === 'foreign' && !isFinal(task.status)))
    }
    return foreign
  }

  async #read(): Promise<Told> {
    const told: Told = { open: new Map(), ended: new Map() }
    const lanes = await this.#log.topics((topic) => this.#topics.holdsTasks(topic))
    const committed = await this.#log.committed(this.#topics.group, lanes)
    for (const topic of lanes) {
      for await (const { records } of this.#log.read(topic, committed.get(topic) ?? new Map())) {
        for (const { value } of records) {
          const remembered = acceptedOf(value)
          if (remembered) told.open.set(remembered.task.id, remembered)
        }
      }
    }
    await this.#readOutcomes(told, new Map())
    return told
  }

  /** The last word about a task is the last one in its partition. */
  async #readOutcomes({ open, ended }: Told, from: ReadonlyMap<number, bigint>): Promise<void> {
    for await (const { records } of this.#log.read(this.#topics.outcomes, from)) {
      for (const { key, value } of records) {
        if (!key) continue
        const id = key.toString()
        const remembered = outcomeOf(value)
        ended.delete(id)
        if (!remembered || isFinal(remembered.task.status)) open.delete(id)
        if (remembered && isFinal(remembered.task.status)) ended.set(id, remembered)
        // It was taken back from its end by a retry.
        if (remembered && !isFinal(remembered.task.status)) open.set(id, waiting(remembered))
      }
    }
  }

  /** As many finished tasks as are kept, oldest first. */
  #kept(ended: Remembered[]): Remembered[] {
    const { ageMs, countMax } = this.#retention
    if (ended.length === 0) return []
    const since = this.#clock() - ageMs
    const young = ended.filter(({ task }) => task.completedAt! > since)
    young.sort((a, b) => a.task.completedAt! - b.task.completedAt!)
    return young.slice(Math.max(young.length - countMax, 0))
  }
}

/** Who ran it is gone. */
function waiting({ task, spec }: Remembered): Remembered {
  return { task: { ...task, status: 'pending' }, spec }
}

function byId(a: Remembered, b: Remembered): number {
  return a.task.id < b.task.id ? -1 : 1
}
