import { randomUUID } from 'node:crypto'
import type { CallRate } from '../../task/api-key.ts'
import type { TaskSpec } from '../../task/task.ts'
import { refuseUnstorable, storableTurn } from '../admission.ts'
import { Batcher } from '../batcher.ts'
import type { Accompanied, AccompaniedAnswer, DocumentsAnswer, DocumentsStep, DueHandler } from '../documents.ts'
import type { HistoryQuery } from '../history.ts'
import { closedError, unknownType } from '../refusals.ts'
import type { Completeness, Remembered, State } from '../state.ts'
import {
  type CallsCounted,
  CHANGES_MAX,
  type ChangeOutcome,
  type EventsQuery,
  type Facts,
  type HandlerSettings,
  type Health,
  type InspectQuery,
  type LimitChange,
  type ListQuery,
  type Matching,
  type MatchQuery,
  type StoreOptions,
  type Submitted,
  type Swept,
  type TaskChange,
  type Turn,
  type TypeChange,
} from '../store.ts'
import { Erasure } from './change/erasure.ts'
import { Database } from './client/database.ts'
import { healthOf } from './client/health.ts'
import { parseRedisUrl } from './client/redis-url.ts'
import { Documents } from './documents/documents.ts'
import { Maintainer } from './due/maintainer.ts'
import { PartitionMessages } from './due/partition-messages.ts'
import { OutboxReader } from './events/outbox-reader.ts'
import { Inspection } from './inspect/inspection.ts'
import { NamedLimits } from './limits/named-limits.ts'
import { Numbers, placeOf } from './records/ids.ts'
import { channels } from './records/keys.ts'
import { Recovery } from './recovery/recovery.ts'
import { Queries } from './scan/queries.ts'
import { Submitter } from './submit/submitter.ts'
import { Turns } from './turn/turns.ts'
import { Registry } from './types/registry.ts'

const RATES_MS = 1_000

/**
 * Tasks on Redis Streams: any number of processes on any number of machines. A task type belongs to a partition, whose
 * keys lie together, and each change is one script there. Messages wake waiting calls, so that they do not poll.
 */
export class RedisStore implements State {
  readonly url: string
  readonly turnsAtOnce = 2
  readonly #database: Database
  readonly #limits: NamedLimits
  readonly #registry: Registry
  readonly #inspection: Inspection
  readonly #turns: Turns
  readonly #queries: Queries
  readonly #outbox: OutboxReader
  readonly #recovery: Recovery
  readonly #documents: Documents
  readonly #maintainers: Maintainer[]
  readonly #submitter: Submitter
  readonly #erasure: Erasure
  readonly #changes: Batcher<{ change: 'cancel' | 'retry'; ref: string }, ChangeOutcome>[]
  readonly #options: StoreOptions
  readonly #process = randomUUID()
  readonly #ratesTimer: NodeJS.Timeout
  #subscribed: Promise<unknown> | undefined
  #isListening = false
  readonly #closing = Promise.withResolvers<void>()
  #handleDue: DueHandler = async () => ({ changed: 0, more: false, nextAt: null })
  #closed = false

  /** @throws XQueueError `engine_unusable` | `engine_unavailable` */
  static async open(url: string, options: StoreOptions): Promise<RedisStore> {
    const engine = new RedisStore(url, options)
    try {
      await engine.#database.link.open()
      await engine.#database.checkCount()
    } catch (error) {
      await engine.close()
      throw error
    }
    return engine
  }

  private constructor(url: string, options: StoreOptions) {
    this.url = url
    this.#options = options
    this.#database = new Database(parseRedisUrl(url), options.clock, () => this.#restored())
    this.#limits = new NamedLimits(this.#database)
    this.#registry = new Registry(this.#database, this.#limits)
    this.#inspection = new Inspection(this.#database, this.#registry, options)
    const listen = () => this.#listen()
    const dueAt = (partition: number, time: number) => this.#maintainers[partition]?.dueAt(time)
    this.#turns = new Turns(this.#database, this.#registry, options, this.#process, listen, dueAt)
    this.#queries = new Queries(this.#database, this.#inspection)
    this.#outbox = new OutboxReader(this.#database, listen, (ids) => this.#recovery.locate(ids))
    this.#erasure = new Erasure(this.#database, options)
    this.#recovery = new Recovery(this.#database, options)
    const numbers = new Numbers()
    const messages = new PartitionMessages(this.#database, options, (partition) =>
      dueAt(partition, this.#database.now()),
    )
    const known = () => this.#inspection.known()
    this.#documents = new Documents(this.#database, options, numbers, dueAt)
    const onDue: DueHandler = (due, now, max) => this.#handleDue(due, now, max)
    this.#maintainers = this.#database.perPartition(
      (at) => new Maintainer(this.#database, at, this.#turns, onDue, messages, options, this.#process),
    )
    this.#submitter = new Submitter(this.#database, this.#queries, options, numbers, known, this.#limits)
    this.#changes = this.#database.perPartition(
      (at) =>
        new Batcher((calls) => this.#sendChanges(at, calls), {
          weightOf: () => 1,
          weightMax: CHANGES_MAX,
          underWayMax: 2,
        }),
    )
    this.#ratesTimer = setInterval(() => {
      // The loss of a statistic is no reason to fail.
      const { rates } = this.#registry
      const isDue = !rates.isEmpty || rates.history.isDue(this.#database.now())
      if (isDue) this.#registry.writeRates().catch(() => undefined)
    }, RATES_MS)
    this.#ratesTimer.unref()
  }

  async submit(specs: readonly TaskSpec[]): Promise<Submitted[]> {
    this.#refuseWhenClosed()
    refuseUnstorable(specs)
    const submitted = await this.#submitter.submit(specs)
    const { rates } = this.#registry
    for (const { task, existing } of submitted) if (!existing) rates.submitted(task.type, 1)
    return submitted
  }

  async turn(turn: Turn) {
    this.#refuseWhenClosed()
    return this.#turns.turn(storableTurn(turn, this.#options.logLinesMax))
  }

  async change(change: TaskChange, ids: readonly string[]): Promise<ChangeOutcome[]> {
    this.#refuseWhenClosed()
    if (change === 'erase') return this.#erasure.erase(ids)
    const outcomes = await Promise.all(
      ids.map((id) => {
        const place = placeOf(id)
        return place ? this.#changes[place.partition]?.add({ change, ref: place.ref }) : undefined
      }),
    )
    return outcomes.map((outcome) => outcome ?? 'unknown')
  }

  async matching(query: MatchQuery): Promise<Matching> {
    this.#refuseWhenClosed()
    return { at: this.#database.now(), ...(await this.#queries.matching(query)) }
  }

  async configureType(type: string, change: TypeChange): Promise<void> {
    this.#refuseWhenClosed()
    // If the store loses everything, a process with handlers must declare them again.
    if (change.handler) await this.#receiveMessages()
    if (!(await this.#registry.configure(type, change))) throw unknownType(type, await this.#inspection.known())
  }

  async configureLimit(name: string, change: LimitChange): Promise<void> {
    this.#refuseWhenClosed()
    await this.#limits.configure(name, change)
  }

  async declareHandlers(handlers: ReadonlyMap<string, HandlerSettings>): Promise<void> {
    this.#refuseWhenClosed()
    await this.#receiveMessages()
    await this.#registry.declare(handlers)
  }

  async sweep(max: number): Promise<Swept> {
    this.#refuseWhenClosed()
    const swept = await this.#database.partitions.each((partition) => this.#maintainers[partition]!.sweep(max))
    const times = swept.flatMap(({ nextAt }) => (nextAt === null ? [] : [nextAt]))
    return {
      changed: swept.reduce((sum, { changed }) => sum + changed, 0),
      more: swept.some(({ more }) => more),
      nextAt: times.length === 0 ? null : Math.min(...times),
    }
  }

  async get(ids: readonly string[], options?: { bare?: boolean }) {
    this.#refuseWhenClosed()
    return this.#queries.get(ids, options)
  }

  async attempts(ids: readonly string[]) {
    this.#refuseWhenClosed()
    return this.#queries.attempts(ids)
  }

  async logs(id: string, after: number, max: number) {
    this.#refuseWhenClosed()
    return this.#queries.logs(id, after, max)
  }

  async list(query: ListQuery) {
    this.#refuseWhenClosed()
    return this.#queries.list(query)
  }

  async predecessor(lease: string, id: string) {
    this.#refuseWhenClosed()
    return this.#queries.predecessor(lease, id)
  }

  async batch(name: string) {
    this.#refuseWhenClosed()
    return this.#queries.batch(name)
  }

  async inspect(query: InspectQuery): Promise<Facts> {
    this.#refuseWhenClosed()
    if (query.task === undefined) {
      const [facts, limits] = await Promise.all([
        this.#inspection.inspect(query),
        this.#limits.facts(query.limits ?? [], query.holders ?? false),
      ])
      return { ...facts, limits }
    }
    const found = (await this.#queries.find([query.task])).get(query.task)
    const { type } = found?.task ?? {}
    const [facts, workers, ahead, successors, limits] = await Promise.all([
      this.#inspection.inspect({ ...query, types: type === undefined ? [] : [type] }),
      type === undefined ? [] : this.#inspection.workersOf(type),
      found?.task.status === 'pending' ? this.#queries.ahead(query.task) : 0,
      found ? this.#queries.successors(query.task, query.successors ?? 0) : [],
      this.#limits.facts(found?.task.uses ?? [], query.holders ?? false),
    ])
    if (!found) return facts
    const { group } = found.task
    const each = facts.types[0]?.groupConcurrency ?? null
    const groupLimit = group === null || type === undefined ? null : await this.#limits.ofGroup(type, group, each)
    const holders = facts.types.flatMap(({ holders }) => holders)
    const holdersOfGroup = holders.filter((holder) => group !== null && holder.group === group)
    return { ...facts, limits, workers, task: { ...found, ahead, successors, groupLimit, holdersOfGroup } }
  }

  async history(query: HistoryQuery) {
    this.#refuseWhenClosed()
    await this.#registry.writeRates()
    await this.#registry.writeHistory(true)
    return this.#registry.readHistory(query)
  }

  async events(query: EventsQuery) {
    this.#refuseWhenClosed()
    return this.#outbox.read(query)
  }

  async locate(ids: readonly string[]) {
    this.#refuseWhenClosed()
    return this.#recovery.locate(ids)
  }

  async restore(tasks: readonly Remembered[]) {
    this.#refuseWhenClosed()
    return this.#recovery.restore(tasks)
  }

  get incarnation(): number {
    return this.#database.link.incarnation + this.#outbox.rebirths
  }

  async restoring(owner?: string, leaseMs?: number, beginsReading?: string): Promise<Completeness> {
    this.#refuseWhenClosed()
    return this.#recovery.restoring(owner, leaseMs, beginsReading)
  }

  async hasRead(reader: string, position: string) {
    this.#refuseWhenClosed()
    const { documents } = await this.#documents.step({ read: [{ kind: 'reader', ids: [reader] }] })
    const [committed = ''] = documents[0]!.map(({ text }) => text.slice(text.lastIndexOf('|') + 1))
    return this.#outbox.isWithin(position, committed)
  }

  async documents(step: DocumentsStep): Promise<DocumentsAnswer> {
    this.#refuseWhenClosed()
    return this.#documents.step(step)
  }

  async submitWith(accompanied: Accompanied): Promise<AccompaniedAnswer> {
    this.#refuseWhenClosed()
    const answer = await this.#documents.submitWith(accompanied)
    if (answer === 'accepted') this.#registry.rates.submitted(accompanied.spec.type, 1)
    return answer
  }

  onDue(handler: DueHandler): void {
    this.#handleDue = handler
  }

  now(): number {
    return this.#database.now()
  }

  async countCalls(key: string, { max, perMs }: CallRate, calls: number): Promise<CallsCounted> {
    this.#refuseWhenClosed()
    const partition = this.#database.partitionOf(key)
    const [allowed, nextInMs] = await this.#database.run<number[]>('calls', partition, [key, max, perMs, calls])
    return { allowed: allowed!, nextInMs: nextInMs! }
  }

  health(): Promise<Health> {
    return healthOf(this.#database)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#closing.resolve()
    clearInterval(this.#ratesTimer)
    this.#turns.close()
    this.#outbox.close()
    for (const maintainer of this.#maintainers) maintainer.close()
    // The loss of a statistic is no reason to fail.
    const { rates } = this.#registry
    const written = this.#registry
      .writeRates()
      .then(() => (rates.history.isEmpty ? undefined : this.#registry.writeHistory()))
    await written.catch(() => undefined)
    await this.#database.link.close()
  }

  #refuseWhenClosed(): void {
    if (this.#closed) throw closedError()
  }

  async #sendChanges(partition: number, calls: { change: 'cancel' | 'retry'; ref: string }[]) {
    const outcomes: ChangeOutcome[] = []
    const { cancelGraceMs, retention } = this.#options
    for (const change of ['cancel', 'retry'] as const) {
      const at = [...calls.keys()].filter((index) => calls[index]!.change === change)
      if (at.length === 0) continue
      const args = [cancelGraceMs, retention.ageMs, change, at.length, ...at.map((index) => calls[index]!.ref)]
      const answers = await this.#database.run<ChangeOutcome[]>('change', partition, args)
      answers.forEach((outcome, index) => {
        outcomes[at[index]!] = outcome
      })
    }
    return outcomes
  }

  /**
   * From now on this process receives the messages to all processes and to itself, and processes what is due on time.
   */
  async #listen(): Promise<void> {
    await this.#receiveMessages()
    if (this.#isListening || this.#closed) return
    this.#isListening = true
    // While turns wait, delays end on time even without a sweeper.
    const { partitions } = this.#database
    partitions.each((partition) => this.#maintainers[partition]!.sweepDue()).catch(() => undefined)
  }

  async #receiveMessages(): Promise<void> {
    this.#subscribed ??= this.#subscribe().catch((error: unknown) => {
      this.#subscribed = undefined
      throw error
    })
    await Promise.race([this.#subscribed, this.#closing.promise])
  }

  async #subscribe(): Promise<void> {
    const { news, wake } = channels(this.#database.url)
    await this.#database.link.subscribe(news, (message) => this.#received(message))
    await this.#database.link.subscribe(wake + this.#process, (message) => {
      const [prefix = '', type = ''] = message.split(' ')
      void this.#turns.wake(this.#database.partitionBy(prefix), type)
    })
  }

  #received(message: string): void {
    const [prefix = '', what = '', ...rest] = message.split(' ')
    const about = rest.join(' ')
    const partition = this.#database.partitionBy(prefix)
    switch (what) {
      case 'events':
        this.#outbox.wake()
        return
      case 'due':
        this.#maintainers[partition]?.dueAt(Number(about))
        return
      case 'lost':
        void this.#restored().catch(() => undefined)
        return
      case 'cancel':
        void this.#turns.wakeWorker(about)
        return
      case 'type':
      case 'types':
        for (const type of rest) {
          this.#registry.forget(type)
          void this.#turns.wake(partition, type, false)
        }
    }
  }

  /** Redis is available again: messages may have been missed, and the last writes may have been lost. */
  async #restored(): Promise<void> {
    this.#outbox.wake()
    this.#database.partitions.forget()
    // If Redis becomes unavailable again, this is called again as well.
    await this.#registry.tellAgain().catch(() => undefined)
    await this.#turns.wakeAll()
  }
}
