import { randomUUID } from 'node:crypto'
import { XQueueError } from '../../../task/errors.ts'
import { retentionOf } from '../../../task/retention.ts'
import { type FinalStatus, isFinal } from '../../../task/status.ts'
import type { TaskSpec } from '../../../task/task.ts'
import type { Remembered, State } from '../../state.ts'
import type { StoreOptions } from '../../store.ts'
import type { Log } from '../client/log.ts'
import type { Topics } from '../client/topics.ts'
import type { LimitsLog } from '../documents/limits-log.ts'
import type { SchedulesLog } from '../documents/schedules-log.ts'
import type { TypesLog } from '../documents/types-log.ts'
import { READER } from '../events/relay.ts'
import { takeApart } from '../records/apart.ts'
import type { DeadLetter, DeadLetters } from '../records/dead-letters.ts'
import { acceptedOf, outcomeOf, readable } from '../records/records.ts'

const LEASE_MS = 10_000
const RENEW_MS = 2_000
const BATCH = 500
/** Records carry the time of their writer; the clocks of two machines differ by at most this. */
const SKEW_MAX_MS = 300_000
const OTHER_KEY = 'the key of the record belongs to another task'

/** A task from the log, and its record. */
export interface Lost {
  remembered: Remembered
  location: Omit<DeadLetter, 'error'>
}

/** Tasks in the log: those that have not ended, and those that have. */
interface LoggedTasks {
  open: Map<string, Lost>
  ended: Map<string, Lost>
}

interface Logs {
  log: Log
  types: TypesLog
  limits: LimitsLog
  schedules: SchedulesLog
  deadLetters: DeadLetters
}

/**
 * Restores a state that has lost data: first types and named limits, so that no limit is missing; then finished tasks,
 * so that none of them runs again; then, with their ids, the unfinished ones; then schedules. It can run any number of
 * times.
 */
export class Restorer {
  readonly #state: State
  readonly #log: Log
  readonly #topics: Topics
  readonly #types: TypesLog
  readonly #limits: LimitsLog
  readonly #schedules: SchedulesLog
  readonly #deadLetters: DeadLetters
  readonly #retention: StoreOptions['retention']
  readonly #clock: () => number
  readonly #accept: (specs: readonly TaskSpec[]) => Promise<unknown>
  readonly #owner = randomUUID()

  /** @param accept accepts tasks again under new ids, and writes them to the log */
  constructor(
    state: State,
    topics: Topics,
    { log, types, limits, schedules, deadLetters }: Logs,
    { retention, clock }: StoreOptions,
    accept: (specs: readonly TaskSpec[]) => Promise<unknown>,
  ) {
    this.#accept = accept
    this.#state = state
    this.#log = log
    this.#topics = topics
    this.#types = types
    this.#limits = limits
    this.#schedules = schedules
    this.#deadLetters = deadLetters
    this.#retention = retention
    this.#clock = clock
  }

  /** Whether the state is complete now; restores it if this process is to do so. */
  async complete(): Promise<boolean> {
    const completeness = await this.#state.restoring(this.#owner, LEASE_MS)
    if (completeness !== 'mine') return completeness === 'complete'
    const lease = setInterval(() => {
      // If the lease is lost, another process does the same, which does no harm.
      this.#state.restoring(this.#owner, LEASE_MS).catch(() => undefined)
    }, RENEW_MS)
    try {
      await this.#types.restore(this.#state)
      await this.#limits.restore(this.#state)
      const { open, ended } = await this.#read()
      // A task whose id belongs to another partition is repaired by the reader of its lane, once the state accepts
      // tasks again.
      await this.#restore(await this.#kept([...ended.values()]))
      await this.#restore([...open.values()].sort(byId))
      await this.#schedules.restore(this.#state)
      return (await this.#state.restoring(this.#owner, LEASE_MS, READER)) === 'complete'
    } finally {
      clearInterval(lease)
    }
  }

  /**
   * Repairs tasks that are in the log and not in the state: restores the unfinished ones, returns the others. A task
   * whose id belongs to another partition is accepted again under a new id, and counts as ended.
   */
  async repair(tasks: readonly Lost[]): Promise<Set<string>> {
    if (tasks.length === 0) return new Set()
    const open = new Map(tasks.map((lost) => [lost.remembered.task.id, lost]))
    const since = Math.min(...tasks.map(({ remembered }) => remembered.task.createdAt)) - SKEW_MAX_MS
    const { outcomes } = this.#topics
    const from = (await this.#log.offsetsAt([outcomes], BigInt(since))).get(outcomes) ?? new Map()
    // No record is that new: there is nothing to read.
    const known = new Map([...from].filter(([, offset]) => offset >= 0n))
    // The restoration has already written records that are no tasks to the dead letters, so they are skipped here.
    if (known.size > 0) await this.#readOutcomes({ open, ended: new Map() }, known)
    const { foreign, refused } = await this.#restore([...open.values()].sort(byId))
    for (const { remembered } of refused) open.delete(remembered.task.id)
    // Each with its own key, so that it is accepted only once.
    const specs = foreign.map(({ task, spec }) => {
      const idempotencyKey = spec.idempotencyKey ?? `xqueue:${task.id}`
      return { ...spec, runAt: task.runAt, delayMs: 0, idempotencyKey }
    })
    if (specs.length > 0) await this.#accept(specs)
    for (const { task } of foreign) open.delete(task.id)
    return new Set(tasks.flatMap(({ remembered: { task } }) => (open.has(task.id) ? [] : [task.id])))
  }

  /**
   * Restores missing tasks. Returns the unfinished ones whose ids belong to another partition, and those that the state
   * refuses, which go to the dead letters: none of them prevents the restoration of the others.
   */
  async #restore(tasks: readonly Lost[]): Promise<{ foreign: Remembered[]; refused: Lost[] }> {
    const foreign: Remembered[] = []
    const refused: (Lost & { error: unknown })[] = []
    const take = async (some: readonly Lost[]) => {
      const restored = await this.#state.restore(some.map(({ remembered }) => remembered))
      const elsewhere = some.filter((_, index) => restored[index] === 'foreign')
      foreign.push(...elsewhere.flatMap(({ remembered }) => (isFinal(remembered.task.status) ? [] : [remembered])))
    }
    for (let from = 0; from < tasks.length; from += BATCH) {
      await takeApart(tasks.slice(from, from + BATCH), take, (lost, error) => refused.push({ ...lost, error }))
    }
    await this.#deadLetters.write(refused.map(({ location, error }) => ({ ...location, error })))
    return { foreign, refused }
  }

  async #read(): Promise<LoggedTasks> {
    const bad: DeadLetter[] = []
    const tasks: LoggedTasks = { open: new Map(), ended: new Map() }
    const lanes = await this.#log.topics((topic) => this.#topics.holdsTasks(topic))
    const committed = await this.#log.committed(this.#topics.group, lanes)
    for (const topic of lanes) {
      for await (const { partition, records } of this.#log.read(topic, committed.get(topic) ?? new Map())) {
        for (const record of records) {
          const location = { topic, partition, record }
          const remembered = readable(() => acceptedOf(record.value))
          if (remembered instanceof XQueueError) bad.push({ ...location, error: remembered })
          else tasks.open.set(remembered.task.id, { remembered, location })
        }
      }
    }
    bad.push(...(await this.#readOutcomes(tasks, new Map())))
    await this.#deadLetters.write(bad)
    return tasks
  }

  /**
   * The last record of a task in its partition is its final state. Returns the records that are no states of a task:
   * they change nothing.
   */
  async #readOutcomes({ open, ended }: LoggedTasks, from: ReadonlyMap<number, bigint>): Promise<DeadLetter[]> {
    const bad: DeadLetter[] = []
    const topic = this.#topics.outcomes
    for await (const { partition, records } of this.#log.read(topic, from)) {
      for (const record of records) {
        const { key, value } = record
        const id = key?.toString() ?? ''
        const location = { topic, partition, record }
        const remembered = value === null ? null : readable(() => outcomeOf(value))
        if (remembered instanceof XQueueError || (remembered && remembered.task.id !== id)) {
          const error = remembered instanceof XQueueError ? remembered : new XQueueError('invalid_request', OTHER_KEY)
          bad.push({ ...location, error })
          continue
        }
        ended.delete(id)
        if (!remembered || isFinal(remembered.task.status)) open.delete(id)
        if (remembered && isFinal(remembered.task.status)) ended.set(id, { remembered, location })
        // A retry has made it unfinished again.
        if (remembered && !isFinal(remembered.task.status)) open.set(id, { remembered: waiting(remembered), location })
      }
    }
    return bad
  }

  /** The finished tasks that retention keeps, oldest first. */
  async #kept(ended: Lost[]): Promise<Lost[]> {
    const { ageMs, countMax } = this.#retention
    if (ended.length === 0) return []
    const { types } = await this.#state.inspect({ settings: true })
    const ofTypes = new Map(types.map(({ type, settings }) => [type, retentionOf(settings!.retention)]))
    const endOf = ({ remembered }: Lost) => remembered.task.completedAt!
    const goesAt = (lost: Lost) => {
      const { type, status } = lost.remembered.task
      return endOf(lost) + (ofTypes.get(type)?.[status as FinalStatus] ?? ageMs)
    }
    const now = this.#clock()
    const young = ended.filter((lost) => goesAt(lost) > now).sort((a, b) => goesAt(a) - goesAt(b))
    return young.slice(Math.max(young.length - countMax, 0)).sort((a, b) => endOf(a) - endOf(b))
  }
}

/** The worker that ran it is gone. */
function waiting({ task, ...remembered }: Remembered): Remembered {
  return { task: { ...task, status: 'pending' }, ...remembered }
}

function byId({ remembered: a }: Lost, { remembered: b }: Lost): number {
  return a.task.id < b.task.id ? -1 : 1
}
