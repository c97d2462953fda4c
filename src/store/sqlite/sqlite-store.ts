import type { CallRate } from '../../task/api-key.ts'
import type { TaskSpec } from '../../task/task.ts'
import { refuseUnstorable, storableTurn } from '../admission.ts'
import type { Accompanied, AccompaniedAnswer, DocumentsAnswer, DocumentsStep, DueHandler } from '../documents.ts'
import type { HistoryQuery, HistorySlot } from '../history.ts'
import { closedError } from '../refusals.ts'
import type {
  CallsCounted,
  ChangeOutcome,
  EventsPage,
  EventsQuery,
  Facts,
  HandlerSettings,
  Health,
  InspectQuery,
  LimitChange,
  ListQuery,
  MatchQuery,
  Store,
  StoreOptions,
  Swept,
  TaskChange,
  Turn,
  TurnAnswer,
  TypeChange,
} from '../store.ts'
import { emptyAnswer, type Waiter, Waiters } from '../waiters.ts'
import { Database, storeError } from './database/database.ts'
import { FileWatch } from './database/file-watch.ts'
import { healthOf } from './database/health.ts'
import type { Space } from './database/space.ts'
import { parseSqliteUrl } from './database/sqlite-url.ts'
import { type Tx, Writer } from './database/writer.ts'
import { Documents } from './documents/documents.ts'
import { Chores } from './due/chores.ts'
import type { Due } from './due/due.ts'
import { Removal } from './due/removal.ts'
import { Outbox } from './events/outbox.ts'
import type { Flows } from './flows/flows.ts'
import { Inspection } from './inspect/inspection.ts'
import type { Limits } from './limits/limits.ts'
import { partsOf } from './parts.ts'
import type { Attempts } from './records/attempts.ts'
import type { Logs } from './records/logs.ts'
import { Queries } from './scan/queries.ts'
import { Submitter } from './submit/submitter.ts'
import type { GroupScheduler } from './turn/group-scheduler.ts'
import type { Planner } from './turn/planner.ts'
import type { RateLog } from './turn/rate-log.ts'
import { Transitions } from './turn/transitions.ts'
import type { Rates } from './types/rates.ts'
import type { Registry } from './types/types.ts'

const TIMER_MS_MAX = 60_000
/**
 * For writes that only need to be in force: they are shown to callers only once durable, and a power loss may undo
 * them.
 */
const NOT_WAITED_FOR = { durable: false }

/**
 * The embedded store: one SQLite file, any number of processes of one machine. Runs on the caller's thread: a call
 * costs microseconds, and all calls of one event loop turn share one fsync.
 */
export class SqliteStore implements Store {
  readonly url: string
  readonly turnsAtOnce = 1
  readonly #database: Database
  readonly #options: StoreOptions
  readonly #due: Due
  readonly #registry: Registry
  readonly #rates: Rates
  readonly #groups: GroupScheduler
  readonly #limits: Limits
  readonly #planner: Planner
  readonly #space: Space
  readonly #flows: Flows
  readonly #attempts: Attempts
  readonly #logs: Logs
  readonly #transitions: Transitions
  readonly #submitter: Submitter
  readonly #documents: Documents
  readonly #queries: Queries
  readonly #inspection: Inspection
  readonly #removal: Removal
  readonly #chores: Chores
  readonly #rateLog: RateLog
  readonly #writer: Writer
  readonly #waiters: Waiters
  readonly #outbox: Outbox
  readonly #watch: FileWatch
  #callOffDue: (() => void) | undefined
  #closed = false

  /** @throws XQueueError `engine_unusable` | `engine_unavailable` */
  static open(url: string, options: StoreOptions): SqliteStore {
    return new SqliteStore(url, options)
  }

  private constructor(url: string, options: StoreOptions) {
    const { path, inMemory, synchronous, sameUrl } = parseSqliteUrl(url)
    this.url = sameUrl
    this.#options = options
    this.#waiters = new Waiters(options.after)
    this.#database = new Database(path, inMemory, synchronous, options.openWaitMs)
    const parts = partsOf(this.#database, options)
    this.#due = parts.due
    this.#registry = parts.registry
    this.#rates = parts.rates
    this.#rateLog = parts.rateLog
    this.#limits = parts.limits
    this.#groups = parts.groups
    this.#planner = parts.planner
    this.#space = parts.space
    this.#flows = parts.flows
    this.#attempts = parts.attempts
    this.#logs = parts.logs
    this.#transitions = new Transitions(parts)
    this.#submitter = new Submitter(parts, this.#transitions)
    this.#documents = new Documents(this.#database, parts.registry, this.#submitter)
    this.#queries = new Queries(this.#database, parts.flows)
    this.#inspection = new Inspection(parts)
    this.#outbox = new Outbox(this.#database, (work) => this.#read(work))
    const kept = [parts.attempts, parts.logs]
    this.#removal = new Removal(this.#transitions, parts.flows, kept, this.#outbox, options)
    const [transitions, removal, documents, outbox] = [this.#transitions, this.#removal, this.#documents, this.#outbox]
    this.#chores = new Chores({ ...parts, transitions, removal, documents, outbox })
    this.#writer = new Writer(this.#database, this.#due, options.clock, {
      begun: () => this.#refresh(),
      beforeCommit: (tx) => {
        this.#limits.wake(tx)
        return this.#serveWaiters(tx)
      },
      afterCommit: (tx) => {
        if (tx.eventCount > 0) this.#outbox.wake()
        this.#armDueTimer(tx.now)
        if (tx.hasPutOff) this.#followOn().catch(() => undefined)
      },
      rolledBack: () => {
        this.#registry.forget()
        this.#due.forget()
        this.#groups.forget()
        this.#limits.forget()
        this.#transitions.forget()
      },
    })
    this.#refresh()
    this.#watch = new FileWatch(inMemory ? null : path, () => this.#checkForChanges())
  }

  async submit(specs: readonly TaskSpec[]) {
    refuseUnstorable(specs)
    return this.#write((tx) => this.#submitter.submit(tx, specs))
  }

  async turn(turn: Turn): Promise<TurnAnswer> {
    const answer = await this.#turn(storableTurn(turn, this.#options.logLinesMax))
    if (!turn.durable) return answer
    await this.#database.sync.durable().catch((error: unknown) => {
      throw storeError(error, this.#database.path)
    })
    return answer
  }

  async change(change: TaskChange, ids: readonly string[]): Promise<ChangeOutcome[]> {
    if (change !== 'erase') return this.#write((tx) => this.#transitions.change(tx, change, ids))
    const outcomes = new Map<string, ChangeOutcome>()
    for (let left = ids; left.length > 0; ) {
      const step = await this.#write((tx) => this.#removal.erase(tx, left))
      for (const [id, outcome] of step.outcomes) outcomes.set(id, outcome)
      left = step.left
    }
    return ids.map((id) => outcomes.get(id) ?? 'unknown')
  }

  configureType(type: string, change: TypeChange): Promise<void> {
    return this.#write((tx) => this.#registry.configure(tx, this.#groups, type, change))
  }

  configureLimit(name: string, change: LimitChange): Promise<void> {
    return this.#write((tx) => this.#limits.configure(tx, name, change))
  }

  declareHandlers(handlers: ReadonlyMap<string, HandlerSettings>): Promise<void> {
    return this.#write((tx) => {
      for (const { limits = {} } of handlers.values()) {
        for (const [name, handler] of Object.entries(limits)) this.#limits.configure(tx, name, { handler })
      }
      this.#registry.declare(tx, this.#groups, handlers)
    })
  }

  async sweep(max: number): Promise<Swept> {
    const swept = await this.#sweep(max)
    return this.#closed ? swept : this.#documents.handleDue(swept, this.#options.clock(), max)
  }

  async #sweep(max: number): Promise<Swept> {
    if (this.#chores.areDone()) return { changed: 0, more: false, nextAt: this.#chores.nextAt() }
    const swept = await this.#write((tx) => this.#chores.do(tx, max), NOT_WAITED_FOR)
    if (!swept.more && !this.#closed) this.#space.shrinkFile()
    return swept
  }

  get = (ids: readonly string[], options?: { bare?: boolean }) => this.#read(() => this.#queries.get(ids, options))
  attempts = (ids: readonly string[]) => this.#read(() => this.#attempts.of(ids))
  logs = (id: string, after: number, max: number) => this.#read(() => this.#logs.read(id, after, max))
  list = (query: ListQuery) => this.#read(() => this.#queries.list(query))
  matching = (query: MatchQuery) => this.#read((now) => ({ ids: this.#queries.matching(query), at: now }))
  predecessor = (lease: string, id: string) => this.#read(() => this.#queries.predecessor(lease, id))
  batch = (name: string) => this.#read(() => this.#queries.batch(name))
  events = (query: EventsQuery): Promise<EventsPage> => this.#outbox.events(query)

  async inspect(query: InspectQuery): Promise<Facts> {
    await this.#writeRates()
    return this.#read((now) => this.#inspection.inspect(query, now))
  }

  async documents(step: DocumentsStep): Promise<DocumentsAnswer> {
    const { changes = [], read, durable = true } = step
    if (changes.length > 0) return this.#write(() => this.#documents.step(step), { durable })
    return { isChanged: true, documents: await this.#read(() => this.#documents.read(read)) }
  }

  submitWith(accompanied: Accompanied): Promise<AccompaniedAnswer> {
    const { durable = true } = accompanied
    return this.#write((tx) => this.#documents.submitWith(tx, accompanied), { durable })
  }

  onDue(handler: DueHandler): void {
    this.#documents.onDue = handler
  }

  now(): number {
    return this.#options.clock()
  }

  countCalls(key: string, rate: CallRate, calls: number): Promise<CallsCounted> {
    return this.#write(({ now }) => this.#rateLog.count(key, rate, calls, now), NOT_WAITED_FOR)
  }

  health(): Promise<Health> {
    return healthOf(this.#database, () => this.#write(({ database }) => database.writeNothing()))
  }

  async close(): Promise<void> {
    if (this.#closed) return
    void this.#writeRates(true).catch(() => undefined)
    this.#closed = true
    this.#waiters.close()
    this.#outbox.close()
    this.#callOffDue?.()
    this.#watch.close()
    this.#writer.drain()
    await this.#database.sync.close()
    this.#database.close()
  }

  #write<T>(work: (tx: Tx) => T, options = { durable: true }): Promise<T> {
    return this.#closed ? Promise.reject(closedError()) : this.#writer.write(work, options)
  }

  async #turn(turn: Turn): Promise<TurnAnswer> {
    const { outcomes = [], renewals = [], logs = [], waitMs = 0, worker, leaving = false, groups } = turn
    const reports = leaving || outcomes.length + renewals.length + logs.length > 0
    const waits = waitMs > 0 && !reports && groups === undefined
    // A turn that only waits needs no transaction, unless there is something to claim.
    if (waits && this.#registry.isFresh(worker, this.#options.clock())) return this.#wait(turn)
    const answer = await this.#write((tx) => {
      if (leaving) this.#registry.leave(worker.id)
      else this.#registry.touch(tx, worker)
      // Progress first: the last reported progress belongs to the attempt that ends in this same turn.
      const renewed = this.#transitions.renew(tx, renewals)
      this.#logs.add(logs)
      const settled = this.#transitions.settle(tx, outcomes)
      this.#transitions.promote(tx)
      const leases = this.#transitions.claim(tx, turn)
      const cancelRequested = this.#transitions.tellCancels(tx, worker.id)
      return { settled, renewed, leases, cancelRequested }
    }, NOT_WAITED_FOR)
    return waits && answer.leases.length + answer.cancelRequested.length === 0 ? this.#wait(turn) : answer
  }

  /** Whether another process has written since the last call. */
  #refresh(): boolean {
    const changed = this.#registry.refresh()
    // That process may not have synced its changes yet, and callers must not see changes that a power loss could undo.
    if (changed) {
      this.#due.forget()
      this.#groups.forget()
      this.#limits.forget()
      this.#flows.forget()
      this.#database.sync.committed()
    }
    return changed
  }

  async #read<T>(work: (now: number) => T): Promise<T> {
    if (this.#closed) throw closedError()
    try {
      this.#refresh()
      const answer = this.#database.atOneMoment(() => work(this.#options.clock()))
      if (this.#database.sync.isBehind) await this.#database.sync.durable()
      return answer
    } catch (error) {
      throw storeError(error, this.#database.path)
    }
  }

  #followOn(): Promise<unknown> {
    return this.#write((next) => this.#transitions.followOn(next), NOT_WAITED_FOR)
  }

  async history(query: HistoryQuery): Promise<HistorySlot[]> {
    await this.#writeRates(true)
    return this.#read((now) => this.#rates.readHistory(now, query))
  }

  /** @param withHistory also those figures of the history that are not due yet */
  async #writeRates(withHistory = false): Promise<void> {
    const rates = this.#rates
    if (rates.isEmpty && (!withHistory || rates.history.isEmpty)) return
    const write = (tx: Tx) => {
      rates.write(tx.now)
      if (withHistory && !rates.history.isEmpty) rates.writeHistory(tx.now)
    }
    await this.#write(write, NOT_WAITED_FOR)
  }

  #wait(turn: Turn): Promise<TurnAnswer> {
    if (this.#closed) return Promise.resolve(emptyAnswer())
    this.#refresh()
    return new Promise((resolve) => {
      this.#waiters.add({ turn, resolve })
      const now = this.#options.clock()
      this.#checkWaiters(turn.want > 0 ? (turn.types ?? turn.worker.types) : [], [turn.worker.id], now)
      this.#armDueTimer(now)
    })
  }

  /**
   * A task may have become ready between a turn's empty claim and its wait: checks once more, without the write lock.
   */
  #checkWaiters(types: readonly string[], workers: readonly string[], now: number): void {
    if (this.#closed) return
    const ready = types.filter((type) => this.#planner.canClaim(this.#database, type, now))
    const canceled = workers.filter((id) => this.#database.all('untoldCancels', id).length > 0)
    if (ready.length === 0 && canceled.length === 0 && Math.min(this.#due.readyAt(), this.#limits.nextOpenAt()) > now)
      return
    this.#touch(ready, canceled)
  }

  #touch(types: readonly string[], workers: readonly string[]): void {
    const touched = this.#write((tx) => {
      for (const type of types) tx.touchedTypes.add(type)
      for (const id of workers) tx.canceledWorkers.add(id)
      this.#transitions.promote(tx)
    }, NOT_WAITED_FOR)
    // The waiting turns stay in the list, and are checked again soon.
    touched.catch(() => undefined)
  }

  /** Delivers tasks that this transaction made claimable to the turns that wait for them, in the same transaction. */
  #serveWaiters(tx: Tx): (() => void)[] {
    const served: (() => void)[] = []
    if (this.#waiters.size === 0) return served
    const done = new Set<Waiter>()
    const serve = (waiter: Waiter): boolean => {
      if (done.has(waiter)) return true
      const leases = this.#transitions.claim(tx, waiter.turn)
      const cancelRequested = this.#transitions.tellCancels(tx, waiter.turn.worker.id)
      if (leases.length + cancelRequested.length === 0) return false
      done.add(waiter)
      this.#registry.touch(tx, waiter.turn.worker)
      served.push(() => {
        this.#waiters.take(waiter)
        waiter.resolve({ ...emptyAnswer(), leases, cancelRequested })
      })
      return true
    }
    for (const id of tx.canceledWorkers) for (const waiter of this.#waiters.ofWorker(id)) if (serve(waiter)) break
    for (const type of tx.touchedTypes) for (const waiter of this.#waiters.ofType(type)) if (!serve(waiter)) break
    return served
  }

  /**
   * Wakes the waiting turns when the next delayed task is due, a rate allows the next start, or a hold ends, as seen at
   * `checkedAt`.
   * With a later time, tasks that became due in between would wake no turn.
   */
  #armDueTimer(checkedAt: number): void {
    this.#callOffDue?.()
    if (this.#waiters.size === 0 || this.#closed) return
    const closed = this.#waiters.types().flatMap((type) => {
      const at = this.#planner.opensAt(type, checkedAt)
      return at === null ? [] : [{ type, at }]
    })
    const at = Math.min(this.#due.readyAt(), this.#limits.nextOpenAt(), ...closed.map((type) => type.at))
    if (at === Number.POSITIVE_INFINITY) return
    const inMs = Math.min(Math.max(at - this.#options.clock(), 1), TIMER_MS_MAX)
    this.#callOffDue = this.#options.after(inMs, () =>
      this.#touch(
        closed.map(({ type }) => type),
        [],
      ),
    )
  }

  #checkForChanges(): boolean {
    if (this.#closed || (this.#waiters.size === 0 && !this.#outbox.isWaitedFor)) return false
    if (!this.#refresh()) return false
    this.#outbox.wake()
    const now = this.#options.clock()
    this.#checkWaiters(this.#waiters.types(), this.#waiters.workers(), now)
    this.#armDueTimer(now)
    return true
  }
}
