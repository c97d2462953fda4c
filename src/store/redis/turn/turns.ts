import { textOf } from '../../../task/json.ts'
import { dueEnding, type Outcome, refusedOutcome } from '../../../task/outcome.ts'
import { isFinal } from '../../../task/status.ts'
import { Batcher } from '../../batcher.ts'
import { leaseSecret } from '../../lease-secret.ts'
import { closedError } from '../../refusals.ts'
import type { Renewed, Settled, StoreOptions, Turn, TurnAnswer } from '../../store.ts'
import { emptyAnswer, isEmpty, type Waiter, Waiters } from '../../waiters.ts'
import type { Database } from '../client/database.ts'
import { type LeaseState, leaseOf, typeOfLane } from '../records/rows.ts'
import type { Registry } from '../types/registry.ts'
import { Heartbeats } from './heartbeats.ts'
import { type Decision, HeldLeases, type Reported } from './held-leases.ts'
import { PendingReplies } from './pending-replies.ts'
import {
  addOutcome,
  emptyPart,
  emptyPlacedPart,
  heldOf,
  type Part,
  type PartAnswer,
  type PlacedPart,
  readTurn,
  type TurnReply,
  tokenOf,
  VERDICT,
  writePart,
} from './turn-codec.ts'
import { Typesets } from './typesets.ts'
import { newsOf, WakeTracker } from './wake-tracker.ts'

const TRIPS_MAX = 3
const WEIGHT_MAX = 64
/** Time that Redis takes before it starts a trip: one that leaves sooner would be answered together with it. */
const APART_MS = 0.2

/** Replaces an outcome that has passed all earlier checks but that Redis cannot store. */
const UNSTORABLE = refusedOutcome('it contains a value that cannot be stored')

/** An outcome to be decided again, or one that replaces the reported one. */
interface Again {
  place: number
  outcome: Outcome
}

/** A type of a partition has a task to claim. */
interface Message {
  partition: number
  type: string
}

/** What a turn that waited was answered with: all the tasks that it wants, less, or no answer yet. */
type Claimed = 'all' | 'less' | 'nothing'

/** A lease that is due: its task, and the first line of its record. */
export interface DueLease {
  ref: string
  lane: string
  record: string
}

/** The turns of this process's workers, including those that wait. */
export class Turns {
  readonly #database: Database
  readonly #registry: Registry
  readonly #options: StoreOptions
  readonly #process: string
  readonly #batchers: Batcher<Part, PartAnswer>[]
  readonly #leases: HeldLeases
  readonly #heartbeats: Heartbeats
  readonly #typesets: Typesets
  readonly #waiters = new Waiters()
  readonly #pendingReplies = new PendingReplies()
  readonly #wakes = new WakeTracker()
  readonly #listen: () => Promise<void>
  readonly #dueAt: (partition: number, time: number) => void
  #isListening = false
  #closed = false

  /**
   * @param listen resolves when this process receives its messages
   * @param dueAt is called when a waiting turn may have something to claim
   */
  constructor(
    database: Database,
    registry: Registry,
    options: StoreOptions,
    process: string,
    listen: () => Promise<void>,
    dueAt: (partition: number, time: number) => void,
  ) {
    this.#heartbeats = new Heartbeats(options.workerTtlMs)
    this.#dueAt = dueAt
    this.#database = database
    this.#registry = registry
    this.#options = options
    this.#process = process
    this.#listen = listen
    this.#leases = new HeldLeases(database, registry, options)
    this.#typesets = new Typesets((type) => database.partitionOf(type))
    const weightOf = (part: Part) => 1 + part.outcomes.length + part.want
    const trips = { weightOf, weightMax: WEIGHT_MAX, underWayMax: TRIPS_MAX, apartMs: APART_MS }
    this.#batchers = database.perPartition((partition) => new Batcher((parts) => this.#send(partition, parts), trips))
  }

  async turn(turn: Turn): Promise<TurnAnswer> {
    const { outcomes = [], renewals = [], logs = [], waitMs = 0, leaving = false } = turn
    const reports = leaving || outcomes.length + renewals.length + logs.length > 0
    const mayWait = waitMs > 0 && turn.groups === undefined && !leaving
    const waits = mayWait && !reports
    if (waits) {
      await this.#listen()
      this.#isListening = true
      if (this.#closed) return emptyAnswer()
      if (this.#isExpected(turn)) return this.#wait(turn)
    }
    // A turn with reports does not wait. It already asks for a message, so that the turn after it waits without a step.
    const registers = mayWait && this.#isListening
    for (;;) {
      const since = this.#wakes.count
      const answer = await this.#go(turn, registers)
      if (!waits || !isEmpty(answer)) return answer
      if (!this.#hasNews(turn, since)) return this.#wait(turn)
    }
  }

  /** Settles leases that are due, each as `settle` decides; returns how many. */
  async endDue(partition: number, leases: readonly DueLease[]): Promise<number> {
    const due = leases.map(({ ref, lane, record }): LeaseState => ({ partition, ref, lane, ...leaseOf(record) }))
    const now = this.#database.now()
    await this.#registry.know(due.map(({ lane }) => typeOfLane(lane)))
    const part = emptyPart({ id: this.#process, host: '', pid: 0, types: [], concurrency: 0, startedAt: 0 })
    const settlements = due.map((state) => {
      const settlement = this.#leases.settlementOf(state, dueEnding(state, now), now)
      addOutcome(part, state, settlement, this.#process, true)
      return settlement
    })
    const { verdicts } = await this.#batchers[partition]!.add(part)
    verdicts.forEach((verdict, index) => {
      const { lane, attempts } = due[index]!
      const { status, attempts: after } = settlements[index]!
      if (verdict !== VERDICT.done) return
      if (isFinal(status) || after > attempts) this.#registry.rates.ended(typeOfLane(lane), status, null, true)
    })
    return verdicts.filter((verdict) => verdict === VERDICT.done).length
  }

  /** A task of a type can be claimed; `passOn` when only this process was notified. */
  async wake(partition: number, type: string, passOn = true): Promise<void> {
    this.#wakes.receive(type)
    for (;;) {
      const waiting = [...this.#waiters.ofType(type)]
      const next = waiting.find(({ asking }) => !asking)
      if (!next) {
        // A turn that waits in another process may have it.
        if (passOn && waiting.length === 0) await this.#passOn(partition, type)
        return
      }
      const isLast = waiting.length === 1
      const claimed = await this.#ask(next, passOn && isLast ? { partition, type } : undefined)
      // Only a turn that claimed as many tasks as it wanted may have left one.
      if (claimed !== 'all' || isLast) return
    }
  }

  /** A worker has a cancel request to receive. */
  async wakeWorker(workerId: string): Promise<void> {
    // The worker asks even if it is not waiting at present.
    if (this.#heartbeats.forget(workerId)) this.#wakes.receive(newsOf(workerId))
    for (const waiter of this.#waiters.ofWorker(workerId)) if (!waiter.asking) await this.#ask(waiter)
  }

  /** Messages may have been lost: every waiting turn asks again. */
  async wakeAll(): Promise<void> {
    this.#wakes.doubt(this.#waiters.types())
    this.#heartbeats.forgetAll()
    for (const workerId of this.#waiters.workers()) await this.wakeWorker(workerId)
  }

  close(): void {
    this.#closed = true
    this.#waiters.close()
  }

  /** Whether a message has arrived since the turn asked, so that it must ask again. */
  #hasNews({ types, worker, signal }: Turn, since: number): boolean {
    if (this.#closed || signal?.aborted) return false
    return this.#wakes.hasNews([...(types ?? worker.types), newsOf(worker.id)], since)
  }

  #isExpected({ want, types, worker }: Turn): boolean {
    const about = this.#heartbeats.aboutOf(worker, this.#database.now())
    return want > 0 && about === '' && this.#wakes.isExpected(types ?? worker.types)
  }

  #wait(turn: Turn): Promise<TurnAnswer> {
    if (this.#closed) return Promise.resolve(emptyAnswer())
    return new Promise((resolve) => this.#waiters.add({ turn, resolve }))
  }

  /**
   * Asks Redis on behalf of a waiting turn.
   * @param message Redis passes it on to another process if the turn leaves tasks
   */
  #ask(waiter: Waiter, message?: Message): Promise<Claimed> {
    const since = this.#wakes.count
    const asking = this.#go({ ...waiter.turn, outcomes: [], renewals: [], logs: [] }, true, message).then(
      (answer): Claimed | Promise<Claimed> => {
        delete waiter.asking
        if (isEmpty(answer)) {
          return this.#hasNews(waiter.turn, since) ? this.#ask(waiter, message) : 'nothing'
        }
        this.#waiters.take(waiter)
        waiter.resolve(answer)
        return answer.leases.length >= waiter.turn.want ? 'all' : 'less'
      },
      (): Claimed => {
        delete waiter.asking
        return 'nothing' // Redis is unavailable: it asks again after the reconnect.
      },
    )
    waiter.asking = asking
    return asking
  }

  async #passOn(partition: number, type: string): Promise<void> {
    await this.#database.run('turn', partition, [...this.#headArgs(partition), 1, type, 0]).catch(() => undefined)
  }

  /** Splits a turn into its parts by partition. */
  #partsOf(
    turn: Turn,
    decisions: readonly (Decision | null)[],
    about: string,
    message?: Message,
  ): Map<number, PlacedPart> {
    const { worker, renewals = [], logs = [], leaving = false, leaseMs = this.#options.leaseMs } = turn
    const byPartition = new Map<number, PlacedPart>()
    const partOf = (partition: number) => {
      const part = byPartition.get(partition) ?? {
        ...emptyPlacedPart(worker),
        about,
        leaving,
        leaseMs,
        groups: turn.groups ?? [],
      }
      byPartition.set(partition, part)
      return part
    }
    renewals.forEach(({ lease, progress }, index) => {
      const held = heldOf(lease)
      if (!held) return
      const part = partOf(held.partition)
      part.renewals.push({ ...held, progress: progress === undefined ? '' : textOf(progress) })
      part.renewalAt.push(index)
    })
    decisions.forEach((decision, index) => {
      if (!decision) return
      const part = partOf(decision.state.partition)
      addOutcome(part, decision.state, decision.settlement, worker.id)
      part.outcomeAt.push(index)
    })
    for (const { lease, lines, skipped = 0 } of logs) {
      const held = heldOf(lease)
      if (!held) continue
      const { ref, fence } = held
      const log = [ref, fence, this.#options.logLinesMax, skipped, lines.length, lines.join('\n')]
      partOf(held.partition).logs.push(log)
    }
    for (const [partition, { types, typeset }] of this.#typesets.byPartition(turn.types ?? worker.types)) {
      // Claims of named groups search each type.
      Object.assign(partOf(partition), { types, typeset: turn.groups?.length ? '' : typeset })
    }
    if (message) partOf(message.partition).wokenFor = message.type
    if (byPartition.size === 0) partOf(0)
    return byPartition
  }

  /**
   * Runs one turn over all partitions that it concerns.
   * @param registers asks for a message when there is a task to claim, if the turn claims none
   */
  async #go(turn: Turn, registers: boolean, message?: Message): Promise<TurnAnswer> {
    const { worker, outcomes = [], renewals = [], leaving = false, leaseMs = this.#options.leaseMs } = turn
    const settled: Settled[] = outcomes.map(() => ({ accepted: false, status: null }))
    const renewed: (Renewed | null)[] = renewals.map(() => null)
    const since = this.#wakes.count
    const decisions = await this.#leases.decide(outcomes)
    const about = leaving ? '' : this.#heartbeats.aboutOf(worker, this.#database.now())
    const byPartition = this.#partsOf(turn, decisions, about, message)
    const answer: TurnAnswer = { settled, renewed, ...this.#pendingReplies.take(turn) }
    const again: Again[] = []
    const visit = async (partition: number, part: PlacedPart) => {
      // Sent once, not to each partition.
      const worked = about === '' ? undefined : this.#heartbeats.takeWorked(worker.id)
      if (worked) part.worked = worked
      this.#database.partitions.note(partition)
      part.waits = registers && part.want > 0
      const trip = this.#batchers[partition]!.add(part)
      const {
        renewals: renewedHere,
        verdicts,
        tasks,
        cancels,
        now,
      } = await trip.catch((error: unknown) => {
        if (worked) this.#heartbeats.addWorked(worker.id, worked)
        throw error
      })
      if (about !== '') this.#heartbeats.written(worker, this.#database.now())
      if (leaving) this.#heartbeats.left(worker.id)
      renewedHere.forEach((item, index) => {
        if (item === null) return
        const { expiresAt, cancelRequested } = item
        renewed[part.renewalAt[index]!] = { expiresAt: this.#database.toLocal(expiresAt), cancelRequested }
      })
      verdicts.forEach((verdict, index) => {
        const place = part.outcomeAt[index]!
        if (verdict === VERDICT.changed) again.push({ place, outcome: outcomes[place]!.outcome })
        if (verdict === VERDICT.unstorable && outcomes[place]!.outcome !== UNSTORABLE)
          again.push({ place, outcome: UNSTORABLE })
        if (verdict === VERDICT.done) settled[place] = this.#settled(outcomes[place]!, decisions[place]!)
      })
      answer.leases.push(...this.#leases.start(partition, tasks, turn, leaseMs, now, part.secret))
      answer.cancelRequested.push(...cancels.map((cancel) => tokenOf(partition, cancel)))
      if (part.waits && tasks.length + cancels.length === 0) this.#wakes.expect(part.types, since)
    }
    let failure: unknown
    try {
      // Reports to several partitions go first: if one of them fails, all are repeated, and no task must have been
      // claimed whose lease the worker would not receive.
      const telling = [...byPartition].filter(([, part]) => reportsOf(part) > 0)
      if (telling.length > 1) {
        await Promise.all(telling.map(([partition, part]) => visit(partition, { ...part })))
        for (const [, part] of telling) Object.assign(part, { outcomes: [], renewals: [], logs: [] })
      }
      for (const [partition, part] of byPartition) {
        part.want = leaving ? 0 : Math.max(0, turn.want - answer.leases.length)
        if (part.want > 0) part.secret = leaseSecret()
        part.isBrief = byPartition.size > 1 && reportsOf(part) === 0 && !leaving
        await visit(partition, part).catch((error: unknown) => {
          // An unavailable node must not delay the tasks of the others.
          if (!part.isBrief) throw error
          failure ??= error
        })
      }
      if (failure && isEmpty(answer)) throw failure
      if (again.length > 0) answer.cancelRequested.push(...(await this.#decideAgain(turn, again, settled)))
      return answer
    } catch (error) {
      this.#pendingReplies.keep(worker.id, answer)
      throw error
    }
  }

  /**
   * Decides the outcomes again whose state had changed, until Redis agrees: a lease changes only by a request to cancel
   * and as its times pass, each of them once.
   */
  async #decideAgain(turn: Turn, again: readonly Again[], settled: Settled[]): Promise<string[]> {
    const outcomes = again.map(({ place, outcome }) => ({ lease: turn.outcomes![place]!.lease, outcome }))
    for (const { lease } of outcomes) this.#leases.forget(lease)
    const answer = await this.#go({ worker: turn.worker, want: 0, types: [], outcomes }, false)
    answer.settled.forEach((item, index) => {
      settled[again[index]!.place] = item
    })
    return answer.cancelRequested
  }

  /** The store has applied an outcome as decided. */
  #settled(outcome: Reported, { state, settlement }: Decision): Settled {
    const { status, attempts } = settlement
    if (attempts > state.attempts) {
      const well = status === 'success' ? 1 : 0
      this.#heartbeats.addWorked(state.workerId, { well, failed: 1 - well })
    }
    this.#leases.ended(outcome.lease, state, settlement)
    return { accepted: outcome.outcome.kind !== 'success' || status === 'success', status }
  }

  async #send(partition: number, parts: Part[]): Promise<PartAnswer[]> {
    if (this.#closed && parts.every(({ outcomes, leaving }) => outcomes.length === 0 && !leaving)) throw closedError()
    const args: (string | number)[] = [...this.#headArgs(partition), 0, parts.length]
    const isBrief = parts.every((part) => part.isBrief)
    const run = async (named: boolean) => {
      const all = [...args]
      for (const part of parts) writePart(all, part, named)
      return readTurn(await this.#database.run<TurnReply>('turn', partition, all, isBrief))
    }
    const answer = (await run(false)) ?? (await run(true))!
    this.#database.sawTime(answer.now)
    if (parts.some(({ about }) => about !== '')) this.#database.met(partition)
    if (answer.nextDueAt !== null) this.#dueAt(partition, answer.nextDueAt)
    return answer.parts
  }

  #headArgs(partition: number): (string | number)[] {
    const { cancelGraceMs, retention, typeTtlMs } = this.#options
    return [this.#process, this.#database.wasMet(partition), cancelGraceMs, retention.ageMs, typeTtlMs]
  }
}

function reportsOf({ outcomes, renewals, logs }: Part): number {
  return outcomes.length + renewals.length + logs.length
}
