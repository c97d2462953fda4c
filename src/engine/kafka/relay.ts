import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { XQueueError } from '../../task/errors.ts'
import type { TaskEvent } from '../../task/event.ts'
import { tickOfKey } from '../../task/schedule.ts'
import { isFinal, STATUSES } from '../../task/status.ts'
import type { Task } from '../../task/task.ts'
import type { State, StateEvent, StatePage } from '../state.ts'
import type { Log, LogRecord } from './log.ts'
import { eventRecord, outcomeRecord, removedRecord } from './records.ts'
import type { Topics } from './topics.ts'

/** The name under which the outbox keeps how far it was told to Kafka. */
export const READER = 'kafka'
const LEASE_MS = 5_000
const PAGE_MAX = 2_000
const WAIT_MS = 1_000
const PAUSE_MS = 200
const LOOK_AGAIN_MS = 10
const LIST_MAX = 500
/** Another process that relays may hold up what waits for it for no longer than this. */
const LAG_LOOK_MS = 1_000

/**
 * The loop that brings the outbox to Kafka: outcomes to their compacted topic, every change to the topic of events, and
 * what schedules have made to its lane. One process does it at a time, by the lease of a named reader; what it has not
 * committed the next one reads again.
 *
 * It is the only one that writes outcomes, and writes a task as it is at that moment: so the last word about a task on
 * the topic is the last word there was, whoever changed it.
 */
export class Relay {
  readonly #state: State
  readonly #log: Log
  readonly #topics: Topics
  readonly #waitMs: number
  readonly #owner = randomUUID()
  readonly #stopped = new AbortController()
  readonly #lagMax: number
  readonly #rememberTicks: (tasks: readonly Task[]) => Promise<void>
  #running: Promise<void> | undefined
  #told = Promise.withResolvers<void>()
  /** Who waits until it has caught up: with what was at the time, and with what will be when that is done. */
  #current: Promise<void> = Promise.resolve()
  #next: Promise<void> | undefined
  #lagTimer: NodeJS.Timeout | undefined
  /** Where the outbox was at each look, oldest first, as far as Kafka has not been told of it. */
  #unread: { position: string; at: number }[] = []

  /**
   * @param lagMaxMs so long may Kafka be behind the state before `isBehind`
   * @param rememberTicks writes tasks that schedules have made to the log, as accepted
   */
  constructor(
    state: State,
    log: Log,
    topics: Topics,
    lagMaxMs: number,
    rememberTicks: (tasks: readonly Task[]) => Promise<void>,
  ) {
    this.#state = state
    this.#log = log
    this.#topics = topics
    this.#waitMs = log.place.waitMs
    this.#lagMax = lagMaxMs
    this.#rememberTicks = rememberTicks
  }

  start(): void {
    this.#running = this.#run()
    this.#lagTimer = setInterval(() => void this.#measure(), LAG_LOOK_MS)
    this.#lagTimer.unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#lagTimer)
    this.#stopped.abort()
    this.#told.resolve()
    await this.#running
  }

  /** Whether what came of tasks waits too long for Kafka: nothing more should begin until it is told. */
  get isBehind(): boolean {
    const oldest = this.#unread[0]
    return oldest !== undefined && performance.now() - oldest.at > this.#lagMax
  }

  /**
   * Resolves when everything that has happened until now is on its topic.
   * @throws XQueueError `engine_unavailable` when that takes too long
   */
  caughtUp(): Promise<void> {
    // Those that ask while it waits for somebody are waited for together after that.
    this.#next ??= this.#current
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined
        this.#current = this.#catchUp()
        return this.#current
      })
    return this.#next
  }

  async #catchUp(): Promise<void> {
    const { last: position } = await this.#state.events({ after: null, max: 1 })
    const until = performance.now() + this.#waitMs
    while (!(await this.#state.hasRead(READER, position))) {
      if (performance.now() > until) {
        const detail = 'the change is made, but Kafka has not taken it yet: it could be lost with the state'
        throw new XQueueError('engine_unavailable', detail, { retry_after: 1 })
      }
      // By this process at once, by another one within moments.
      await Promise.race([this.#told.promise, sleep(LOOK_AGAIN_MS)])
    }
  }

  async #run(): Promise<void> {
    let after: string | null = null
    while (!this.#stopped.signal.aborted) {
      try {
        const page: StatePage = await this.#state.events({ ...this.#query(), after })
        this.#told.resolve()
        this.#told = Promise.withResolvers()
        if (!page.held) {
          after = null
          continue
        }
        if (page.gap) await this.#tellAll()
        await this.#tellTicks(page.events)
        await this.#log.write(await this.#recordsOf(page.events))
        after = page.last
      } catch {
        // The state or Kafka is away, and health says so. What was not committed is read again.
        after = null
        await sleep(PAUSE_MS, undefined, { signal: this.#stopped.signal }).catch(() => undefined)
      }
    }
    // The next one need not wait for the lease to end.
    const { name, owner } = this.#query().reader
    await this.#state
      .events({ after, max: 1, resumes: true, reader: { name, owner, leaseMs: 0 } })
      .catch(() => undefined)
  }

  #query() {
    const reader = { name: READER, owner: this.#owner, leaseMs: LEASE_MS }
    return { max: PAGE_MAX, waitMs: WAIT_MS, signal: this.#stopped.signal, reader, resumes: true }
  }

  async #recordsOf(events: readonly TaskEvent[]): Promise<LogRecord[]> {
    const records: LogRecord[] = []
    const removed = new Set<string>()
    const changed = new Set<string>()
    for (const event of events) {
      if (this.#log.place.events) records.push(eventRecord(this.#topics.events, this.#source, event))
      if (event.kind === 'removed') removed.add(event.taskId)
      else if (event.kind === 'status' && hasLeftItsLane(event)) changed.add(event.taskId)
    }
    const ids = [...changed].filter((id) => !removed.has(id))
    for (const [index, task] of (await this.#state.get(ids)).entries()) {
      if (task) records.push(outcomeRecord(this.#topics.outcomes, task))
      else removed.add(ids[index]!)
    }
    for (const id of removed) records.push(removedRecord(this.#topics.outcomes, id))
    return records
  }

  get #source(): string {
    return `/xqueue/${this.#log.place.prefix}`
  }

  /** Tasks that schedules have made: the log has not heard of them as it has of those that were submitted. */
  async #tellTicks(events: readonly StateEvent[]): Promise<void> {
    const ids = events.filter(({ ofSchedule }) => ofSchedule).map(({ taskId }) => taskId)
    if (ids.length === 0) return
    const tasks = await this.#state.get(ids)
    await this.#rememberTicks(tasks.filter((task) => task !== null))
  }

  /**
   * Events are gone that were not told: writes all finished tasks that the state still has, and of the others those
   * that schedules have made.
   */
  async #tellAll(): Promise<void> {
    for (const status of STATUSES) {
      let cursor: string | null = null
      do {
        const query = { status, limit: LIST_MAX, ...(cursor === null ? {} : { cursor }) }
        const page: Awaited<ReturnType<State['list']>> = await this.#state.list(query)
        if (isFinal(status)) await this.#log.write(page.tasks.map((task) => outcomeRecord(this.#topics.outcomes, task)))
        else await this.#rememberTicks(page.tasks.filter(({ idempotencyKey }) => tickOfKey(idempotencyKey)))
        cursor = page.nextCursor
      } while (cursor !== null && !this.#stopped.signal.aborted)
    }
  }

  async #measure(): Promise<void> {
    try {
      const at = performance.now()
      const { last } = await this.#state.events({ after: null, max: 1 })
      this.#unread.push({ position: last, at })
      while (this.#unread.length > 0 && (await this.#state.hasRead(READER, this.#unread[0]!.position))) {
        this.#unread.shift()
      }
    } catch {
      // The state is away: nothing begins meanwhile anyway.
      this.#unread = []
    }
  }
}

/** A final status, or that of a task which was taken back from one: only that is pending again without a worker. */
function hasLeftItsLane({ status, taskId, at, workerId, attempts }: TaskEvent): boolean {
  if (isFinal(status)) return true
  return status === 'pending' && workerId === null && attempts === 0 && at !== createdAt(taskId)
}

/** Ids begin with the time of submission. */
function createdAt(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)
}
