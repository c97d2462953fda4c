import { setTimeout as sleep } from 'node:timers/promises'
import type { CallRate } from '../../task/api-key.ts'
import { changeTo } from '../../task/ceilings.ts'
import { changeToRetention } from '../../task/retention.ts'
import { isFinal } from '../../task/status.ts'
import { specOfTask, type Task, type TaskSpec } from '../../task/task.ts'
import type { Accompanied, AccompaniedAnswer, DocumentsAnswer, DocumentsStep, DueHandler } from '../documents.ts'
import type { HistoryQuery } from '../history.ts'
import { scheduleOf } from '../schedule-document.ts'
import {
  incomplete,
  type ReadNamed,
  type Remembered,
  type Restorable,
  type Restored,
  refuseIfLost,
  type State,
} from '../state.ts'
import type {
  ChangeOutcome,
  EventsQuery,
  Facts,
  HandlerSettings,
  Health,
  InspectQuery,
  LimitChange,
  ListQuery,
  MatchQuery,
  StoreOptions,
  Submitted,
  TaskChange,
  Turn,
  TurnAnswer,
  TypeChange,
} from '../store.ts'
import { Group } from './client/group.ts'
import { healthOf } from './client/health.ts'
import type { KafkaUrl } from './client/kafka-url.ts'
import { Log } from './client/log.ts'
import { StreamInfoReader } from './client/stream-info.ts'
import { Topics } from './client/topics.ts'
import { LimitsLog } from './documents/limits-log.ts'
import { SchedulesLog } from './documents/schedules-log.ts'
import { TypesLog } from './documents/types-log.ts'
import { Relay } from './events/relay.ts'
import { DeadLetters } from './records/dead-letters.ts'
import { acceptedRecord, outcomeRecords } from './records/records.ts'
import { CareOfPartition } from './recovery/care-of-partition.ts'
import { LanePartition } from './recovery/lane-partition.ts'
import { Restorer } from './recovery/restorer.ts'
import { SubmitPartition } from './submit/submit-partition.ts'

/** Interval at which it checks whether the state has lost data. */
const CHECK_MS = 250
/** Maximum wait of opening for a state that is being restored; after that it continues, and submissions are refused. */
const OPEN_WAIT_MS = 10_000
/** No more tasks are delivered while outcomes wait longer than this for Kafka. */
const LAG_MAX_MS = 5_000
/** A partition that does not advance for this long is reported. */
const STUCK_MS = 10_000

/**
 * Tasks on Kafka: its topics hold the accepted tasks and their outcomes, and another store holds the live state, which
 * decides everything. A submission is decided by the state, then written to its lane's topic, and then answered: every
 * acknowledged task is in Kafka. Data that the state loses is restored from the topics.
 */
export class KafkaStore implements Restorable {
  readonly url: string
  readonly turnsAtOnce: number
  readonly #state: State
  readonly #log: Log
  readonly #topics: Topics
  readonly #types: TypesLog
  readonly #limits: LimitsLog
  readonly #schedules: SchedulesLog
  readonly #relay: Relay
  readonly #restorer: Restorer
  readonly #group: Group
  readonly #stream: StreamInfoReader
  readonly #deadLetters: DeadLetters
  readonly #lanes = new Map<string, Promise<string>>()
  #isComplete = false
  #completing: Promise<void> | undefined
  readonly #watchTimer: NodeJS.Timeout
  #closed = false

  /**
   * @param state is closed together with this store
   * @param readNamed reads the outbox of the state for the relay
   * @throws XQueueError `engine_unusable`, `engine_unavailable`
   */
  static async open(url: KafkaUrl, options: StoreOptions, state: State, readNamed: ReadNamed): Promise<KafkaStore> {
    const engine = new KafkaStore(url, options, state, readNamed)
    try {
      await engine.#start()
    } catch (error) {
      await engine.close()
      throw error
    }
    return engine
  }

  private constructor(url: KafkaUrl, options: StoreOptions, state: State, readNamed: ReadNamed) {
    // A second opening in another thread renews leases, which the state has.
    this.url = state.url
    this.#state = state
    this.turnsAtOnce = state.turnsAtOnce
    this.#topics = new Topics(url)
    this.#log = new Log(url, this.#topics.group)
    this.#deadLetters = new DeadLetters(this.#log, this.#topics.dead)
    this.#types = new TypesLog(this.#log, this.#topics.types, this.#deadLetters)
    this.#limits = new LimitsLog(this.#log, this.#topics.limits, this.#deadLetters)
    this.#schedules = new SchedulesLog(this.#log, this.#topics.schedules, this.#deadLetters)
    const rememberTicks = (tasks: readonly Task[]) => this.#rememberTicks(tasks)
    this.#relay = new Relay(state, readNamed, this.#log, this.#topics, LAG_MAX_MS, rememberTicks)
    const accept = (specs: readonly TaskSpec[]) => this.#accept(specs)
    const [types, limits, schedules, deadLetters] = [this.#types, this.#limits, this.#schedules, this.#deadLetters]
    const logs = { log: this.#log, types, limits, schedules, deadLetters }
    this.#restorer = new Restorer(state, this.#topics, logs, options, accept)
    this.#stream = new StreamInfoReader(this.#log, this.#topics)
    const { submit } = this.#topics
    this.#group = new Group({
      log: this.#log,
      group: this.#topics.group,
      reads: (topic) => topic === submit || this.#topics.holdsTasks(topic),
      isCut: (topic) => this.#topics.holdsTasks(topic),
      open: (topic, partition, from) => this.#openPartition(topic, partition, from),
    })
    this.#watchTimer = setInterval(() => void this.#watch(), CHECK_MS)
    this.#watchTimer.unref()
  }

  async submit(specs: readonly TaskSpec[]): Promise<Submitted[]> {
    this.#refuseWhenIncomplete()
    // A closed state reports that itself.
    if (!this.#closed) await this.#log.ready()
    return this.#accept(specs)
  }

  async restore(tasks: readonly Remembered[]): Promise<Restored[]> {
    this.#refuseWhenIncomplete()
    const restored = await this.#state.restore(tasks)
    // Includes tasks that existed before: perhaps no process has written them yet.
    const kept = tasks.filter((_, index) => restored[index] !== 'foreign')
    const ended = kept.filter(({ task }) => isFinal(task.status))
    await this.#writeOutcomes(ended.map(({ task }) => task))
    await this.#remember(kept.filter(({ task }) => !isFinal(task.status)))
    return restored
  }

  async turn(turn: Turn): Promise<TurnAnswer> {
    const since = this.#state.incarnation
    // Outcomes must reach Kafka before many more tasks start.
    const answer = await this.#state.turn(this.#relay.isBehind ? { ...turn, want: 0 } : turn)
    if (turn.durable && answer.settled.some(({ status }) => status !== null && isFinal(status))) {
      await this.#relay.caughtUp(since).catch(async (error: unknown) => {
        // The caller gets no answer, and so none of the tasks in it.
        const outcomes = answer.leases.map(({ lease }) => ({ lease, outcome: { kind: 'released' } as const }))
        await this.#state.turn({ worker: turn.worker, want: 0, outcomes }).catch(() => undefined)
        throw error
      })
    }
    return answer
  }

  /** The `removed` event of an erased task becomes a record without a value, so Kafka deletes its outcome. */
  async change(change: TaskChange, ids: readonly string[]): Promise<ChangeOutcome[]> {
    const since = this.#state.incarnation
    const outcomes = await this.#state.change(change, ids)
    // A task that is unknown to a state with lost data may well exist.
    if (outcomes.includes('unknown')) await this.#refuseUnlessWhole()
    // Regardless of the handler's result, the task ends as canceled.
    const stopping = ids.filter((_, index) => outcomes[index] === 'stopping')
    const tasks = (await this.#state.get(stopping)).filter((task) => task !== null)
    await this.#writeOutcomes(tasks.map(canceled))
    if (outcomes.includes('changed')) await this.#relay.caughtUp(since)
    else if (stopping.length > 0) await this.#refuseIfLost(since)
    return outcomes
  }

  matching(query: MatchQuery) {
    return this.#state.matching(query)
  }

  async configureType(type: string, change: TypeChange): Promise<void> {
    // A handler may declare itself at any time, because it repeats an earlier declaration.
    if (!change.handler) await this.#refuseUnlessWhole()
    const since = this.#state.incarnation
    await this.#state.configureType(type, change)
    // The last record of a field must contain all of it.
    const whole = { ...change }
    if (change.ceilings || change.retention) {
      const { ceilings, retention } = (await this.#state.inspect({ types: [type], settings: true })).types[0]!.settings!
      if (change.ceilings) whole.ceilings = changeTo(ceilings)
      if (change.retention) whole.retention = changeToRetention(retention.set)
    }
    await this.#types.write([[type, whole]])
    if (!change.handler) await this.#refuseIfLost(since)
  }

  async configureLimit(name: string, change: LimitChange): Promise<void> {
    await this.#refuseUnlessWhole()
    const since = this.#state.incarnation
    await this.#state.configureLimit(name, change)
    await this.#limits.write(name, change)
    await this.#refuseIfLost(since)
  }

  async declareHandlers(handlers: ReadonlyMap<string, HandlerSettings>): Promise<void> {
    await this.#state.declareHandlers(handlers)
    await this.#types.write([...handlers].map(([type, handler]) => [type, { handler }]))
  }

  sweep(max: number) {
    return this.#state.sweep(max)
  }

  async get(ids: readonly string[], options?: { bare?: boolean }) {
    const tasks = await this.#state.get(ids, options)
    if (tasks.includes(null)) await this.#refuseUnlessWhole()
    return tasks
  }

  attempts = (ids: readonly string[]) => this.#state.attempts(ids)

  logs = (id: string, after: number, max: number) => this.#state.logs(id, after, max)

  list(query: ListQuery) {
    return this.#state.list(query)
  }

  predecessor(lease: string, id: string) {
    return this.#state.predecessor(lease, id)
  }

  batch(name: string) {
    return this.#state.batch(name)
  }

  async inspect(query: InspectQuery): Promise<Facts> {
    const facts = await this.#state.inspect(query)
    // While Kafka is unavailable, the state's own terms are returned.
    return query.stream ? { ...facts, stream: await this.#stream.read() } : facts
  }

  history = (query: HistoryQuery) => this.#state.history(query)

  events(query: EventsQuery) {
    return this.#state.events(query)
  }

  countCalls(key: string, rate: CallRate, calls: number) {
    return this.#state.countCalls(key, rate, calls)
  }

  now(): number {
    return this.#state.now()
  }

  /** Changes of schedules are written to the log; ticks have records of their own, which the relay writes. */
  async documents(step: DocumentsStep): Promise<DocumentsAnswer> {
    const { changes = [], durable = true } = step
    const ids = durable ? changes.flatMap(({ kind, id }) => (kind === 'schedule' ? [id] : [])) : []
    if (ids.length === 0 || this.#closed) return this.#state.documents(step)
    await this.#refuseUnlessWhole()
    await this.#log.ready()
    const since = this.#state.incarnation
    const answer = await this.#state.documents(step)
    if (answer.isChanged) for (const id of ids) await this.#follow(id, since)
    return answer
  }

  async submitWith(accompanied: Accompanied): Promise<AccompaniedAnswer> {
    const { durable = true } = accompanied
    if (!durable || this.#closed) return this.#state.submitWith(accompanied)
    await this.#refuseUnlessWhole()
    await this.#log.ready()
    const since = this.#state.incarnation
    const answer = await this.#state.submitWith(accompanied)
    if (answer === 'accepted') await this.#relay.caughtUp(since)
    return answer
  }

  onDue(handler: DueHandler): void {
    this.#state.onDue(handler)
  }

  async health(): Promise<Health> {
    const health = await this.#state.health()
    return healthOf(this.#log, this.#topics, health, {
      isComplete: this.#isComplete,
      isBehind: this.#relay.isBehind,
      stuck: this.#group.stuck(STUCK_MS),
    })
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#watchTimer)
    await Promise.all([this.#relay.stop(), this.#group.stop()])
    await Promise.all([this.#state.close(), this.#log.close()])
  }

  async #start(): Promise<void> {
    await this.#log.create(this.#topics.plans())
    const until = performance.now() + OPEN_WAIT_MS
    while (!this.#isComplete && performance.now() < until) {
      await this.#complete()
      if (!this.#isComplete) await sleep(CHECK_MS)
    }
    this.#relay.start()
    this.#group.start()
  }

  async #accept(specs: readonly TaskSpec[]): Promise<Submitted[]> {
    const submitted = await this.#state.submit(specs)
    // Includes schedules that existed before: perhaps no process has written them yet.
    await this.#remember(
      submitted.flatMap(({ task }, index) => (isFinal(task.status) ? [] : [{ task, spec: specs[index]! }])),
    )
    return submitted
  }

  async #writeOutcomes(tasks: readonly Task[]): Promise<void> {
    await this.#log.write(await outcomeRecords(this.#state, this.#topics.outcomes, tasks))
  }

  /** Writes to the log the tasks that the state has accepted. */
  async #remember(open: readonly Remembered[]): Promise<void> {
    const topics = await Promise.all(open.map(({ task }) => this.#lane(task)))
    await this.#log.write(open.map(({ task, spec }, index) => acceptedRecord(topics[index]!, task, spec)))
  }

  #follow(scheduleId: string, since: number): Promise<void> {
    return this.#schedules.follow(scheduleId, async () => {
      const { documents } = await this.#state.documents({ read: [{ kind: 'schedule' }] })
      // A missing schedule counts as removed only if the state has lost nothing.
      await this.#refuseIfLost(since)
      return documents[0]!.map(scheduleOf)
    })
  }

  /** Writes each task before its tick. */
  async #rememberTicks(tasks: readonly Task[]): Promise<void> {
    const open = tasks.filter(({ status }) => !isFinal(status))
    await this.#remember(open.map((task) => ({ task, spec: { ...specOfTask(task, task.runAt), runAt: null } })))
    await this.#schedules.ticked(tasks)
  }

  /** The topic of a task's lane, created with its first task. */
  #lane({ type, priority }: Task): Promise<string> {
    const name = `${type}:${priority}`
    let lane = this.#lanes.get(name)
    if (!lane) {
      const topic = this.#topics.lane(type, priority)
      lane = this.#log.create([this.#topics.lanePlan(topic)]).then(() => {
        this.#group.add(topic)
        return topic
      })
      this.#lanes.set(name, lane)
      lane.catch(() => this.#lanes.delete(name))
    }
    return lane
  }

  #openPartition(topic: string, partition: number, from: bigint) {
    if (topic === this.#topics.submit) {
      return new SubmitPartition(this, this.#deadLetters, topic, partition, from)
    }
    const [state, log, topics, relay] = [this.#state, this.#log, this.#topics, this.#relay]
    const others = { deadLetters: this.#deadLetters, restorer: this.#restorer }
    const parts = { state, log, topics, relay, ...others, refuseUnlessWhole: () => this.#refuseUnlessWhole() }
    return new LanePartition(state, new CareOfPartition(parts, topic, partition), from)
  }

  /** @throws XQueueError `engine_unavailable` if the state is not whole, or may have lost a change since then */
  async #refuseIfLost(since: number): Promise<void> {
    await this.#refuseUnlessWhole()
    refuseIfLost(this.#state, since)
  }

  async #refuseUnlessWhole(): Promise<void> {
    await this.#watch()
    this.#refuseWhenIncomplete()
  }

  #refuseWhenIncomplete(): void {
    if (!this.#isComplete && !this.#closed) throw incomplete()
  }

  /** Checks whether the state still has everything; if not, restores it or waits for its restoration. */
  async #watch(): Promise<void> {
    if (this.#closed) return
    try {
      this.#isComplete = (await this.#state.restoring()) === 'complete'
    } catch {
      // The state is unavailable, and its calls report that.
      return
    }
    if (!this.#isComplete) void this.#complete().catch(() => undefined)
  }

  #complete(): Promise<void> {
    this.#completing ??= this.#restorer
      .complete()
      .then((isComplete) => {
        this.#isComplete = isComplete
      })
      .finally(() => {
        this.#completing = undefined
      })
    return this.#completing
  }
}

function canceled(task: Task): Task {
  return { ...task, status: 'canceled', completedAt: task.updatedAt }
}
