import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { XQueueError } from '../../../task/errors.ts'
import type { TaskEvent } from '../../../task/event.ts'
import { tickOfKey } from '../../../task/schedule.ts'
import { isFinal, STATUSES } from '../../../task/status.ts'
import type { Task } from '../../../task/task.ts'
import { type ReadNamed, refuseIfLost, type State, type StateEvent } from '../../state.ts'
import type { Log, LogRecord } from '../client/log.ts'
import type { Topics } from '../client/topics.ts'
import { eventRecord, outcomeRecords, removedRecord } from '../records/records.ts'

/** The name of the outbox reader that writes to Kafka. */
export const READER = 'kafka'
const LEASE_MS = 5_000
const PAGE_MAX = 2_000
const WAIT_MS = 1_000
const PAUSE_MS = 200
const CHECK_AGAIN_MS = 10
const LIST_MAX = 500
/** Maximum delay that another relaying process may cause for callers that wait. */
const LAG_CHECK_MS = 1_000

/**
 * The loop that writes the outbox to Kafka: outcomes to their compacted topic, every change to the topic of events, and
 * tasks of schedules to their lanes. One process does it at a time, by the lease of a named reader; the next one reads
 * everything again that was not committed.
 *
 * Only this loop writes outcomes, and it writes the present state of a task: so the last record of a task on the topic
 * is its last state, regardless of which process changed it.
 */
export class Relay {
  readonly #state: State
  readonly #readNamed: ReadNamed
  readonly #log: Log
  readonly #topics: Topics
  readonly #waitMs: number
  readonly #owner = randomUUID()
  readonly #stopped = new AbortController()
  readonly #lagMax: number
  readonly #rememberTicks: (tasks: readonly Task[]) => Promise<void>
  #running: Promise<void> | undefined
  #written = Promise.withResolvers<void>()
  /** Callers that wait until it has caught up: with the present events, and with those when that is done. */
  #current: Promise<void> = Promise.resolve()
  #next: Promise<void> | undefined
  #lagTimer: NodeJS.Timeout | undefined
  /** The position of the outbox at each check, oldest first, as far as Kafka does not have it yet. */
  #unread: { position: string; at: number }[] = []

  /**
   * @param lagMaxMs maximum delay of Kafka behind the state before `isBehind`
   * @param rememberTicks writes tasks that schedules have created to the log, as accepted
   */
  constructor(
    state: State,
    readNamed: ReadNamed,
    log: Log,
    topics: Topics,
    lagMaxMs: number,
    rememberTicks: (tasks: readonly Task[]) => Promise<void>,
  ) {
    this.#state = state
    this.#readNamed = readNamed
    this.#log = log
    this.#topics = topics
    this.#waitMs = log.url.waitMs
    this.#lagMax = lagMaxMs
    this.#rememberTicks = rememberTicks
  }

  start(): void {
    this.#running = this.#run()
    this.#lagTimer = setInterval(() => void this.#measure(), LAG_CHECK_MS)
    this.#lagTimer.unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#lagTimer)
    this.#stopped.abort()
    this.#written.resolve()
    await this.#running
  }

  /** Whether outcomes have waited too long for Kafka: no more tasks should start until they are written. */
  get isBehind(): boolean {
    const oldest = this.#unread[0]
    return oldest !== undefined && performance.now() - oldest.at > this.#lagMax
  }

  /**
   * Resolves when all events so far are on their topics.
   * @param since the incarnation of the state from before them
   * @throws XQueueError `engine_unavailable` when that takes too long, or if the state may have lost some of them
   */
  async caughtUp(since: number): Promise<void> {
    // Callers that arrive during a wait share the next one.
    this.#next ??= this.#current
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined
        this.#current = this.#catchUp()
        return this.#current
      })
    await this.#next
    refuseIfLost(this.#state, since)
  }

  async #catchUp(): Promise<void> {
    const position = await this.#lastPosition()
    const until = performance.now() + this.#waitMs
    while (!(await this.#state.hasRead(READER, position))) {
      if (performance.now() > until) {
        const detail = 'the change is made, but Kafka has not stored it yet: a loss of the state could undo it'
        throw new XQueueError('engine_unavailable', detail, { retry_after: 1 })
      }
      // This process notices at once, another one within moments.
      await Promise.race([this.#written.promise, sleep(CHECK_AGAIN_MS)])
    }
    await this.#lastPosition()
  }

  /** The position of the last event. The state may have lost everything, which its `incarnation` tells afterwards. */
  async #lastPosition(): Promise<string> {
    return (await this.#state.events({ after: null, max: 1 })).last
  }

  async #run(): Promise<void> {
    let after: string | null = null
    while (!this.#stopped.signal.aborted) {
      try {
        const since = this.#state.incarnation
        const query = { after, max: PAGE_MAX, waitMs: WAIT_MS, signal: this.#stopped.signal }
        const page: Awaited<ReturnType<ReadNamed>> = await this.#readNamed(query, this.#reader(LEASE_MS))
        this.#written.resolve()
        this.#written = Promise.withResolvers()
        if (!page.held) {
          after = null
          continue
        }
        if (page.gap) await this.#tellAll()
        await this.#tellTicks(page.events)
        await this.#log.write(await this.#recordsOf(page.events, since))
        after = page.last
      } catch {
        // The state or Kafka is unavailable, as health reports. Events that were not committed are read again.
        after = null
        await sleep(PAUSE_MS, undefined, { signal: this.#stopped.signal }).catch(() => undefined)
      }
    }
    // Releases the lease, so that the next process need not wait for its end.
    await this.#readNamed({ after, max: 1 }, this.#reader(0)).catch(() => undefined)
  }

  #reader(leaseMs: number) {
    return { name: READER, owner: this.#owner, leaseMs, resumes: true }
  }

  /** @param since the incarnation of the state that the events are from */
  async #recordsOf(events: readonly TaskEvent[], since: number): Promise<LogRecord[]> {
    const records: LogRecord[] = []
    const removed = new Set<string>()
    const changed = new Set<string>()
    for (const event of events) {
      if (this.#log.url.events) records.push(eventRecord(this.#topics.events, this.#source, event))
      if (event.kind === 'removed') removed.add(event.taskId)
      else if (event.kind === 'status' && hasLeftItsLane(event)) changed.add(event.taskId)
    }
    const ids = [...changed].filter((id) => !removed.has(id))
    const tasks = await this.#state.get(ids)
    const present = tasks.filter((task) => task !== null)
    records.push(...(await outcomeRecords(this.#state, this.#topics.outcomes, present)))
    const missing = ids.filter((_, index) => tasks[index] === null)
    // What the state has lost is not removed: it is restored from the log.
    if (missing.length > 0) {
      await this.#lastPosition()
      refuseIfLost(this.#state, since)
    }
    for (const id of missing) removed.add(id)
    for (const id of removed) records.push(removedRecord(this.#topics.outcomes, id))
    return records
  }

  get #source(): string {
    return `/xqueue/${this.#log.url.prefix}`
  }

  /** Writes tasks that schedules have created: unlike submitted tasks, they are not in the log yet. */
  async #tellTicks(events: readonly StateEvent[]): Promise<void> {
    const ids = events.filter(({ ofSchedule }) => ofSchedule).map(({ taskId }) => taskId)
    if (ids.length === 0) return
    const tasks = await this.#state.get(ids)
    await this.#rememberTicks(tasks.filter((task) => task !== null))
  }

  /**
   * Events were removed before they were written: writes all finished tasks that the state still has, and of the others
   * those that schedules have created.
   */
  async #tellAll(): Promise<void> {
    for (const status of STATUSES) {
      let cursor: string | null = null
      do {
        const query = { status, limit: LIST_MAX, ...(cursor === null ? {} : { cursor }) }
        const page: Awaited<ReturnType<State['list']>> = await this.#state.list(query)
        if (isFinal(status)) {
          await this.#log.write(await outcomeRecords(this.#state, this.#topics.outcomes, page.tasks))
        } else await this.#rememberTicks(page.tasks.filter(({ idempotencyKey }) => tickOfKey(idempotencyKey)))
        cursor = page.nextCursor
      } while (cursor !== null && !this.#stopped.signal.aborted)
    }
  }

  async #measure(): Promise<void> {
    try {
      const at = performance.now()
      this.#unread.push({ position: await this.#lastPosition(), at })
      while (this.#unread.length > 0 && (await this.#state.hasRead(READER, this.#unread[0]!.position))) {
        this.#unread.shift()
      }
    } catch {
      // The state is unavailable, so no task starts meanwhile.
      this.#unread = []
    }
  }
}

/** True for a final status, and for a task that was retried from one: only that is pending again without a worker. */
function hasLeftItsLane({ status, taskId, at, workerId, attempts }: TaskEvent): boolean {
  if (isFinal(status)) return true
  return status === 'pending' && workerId === null && attempts === 0 && at !== createdAt(taskId)
}

/** Ids begin with the time of submission. */
function createdAt(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)
}
