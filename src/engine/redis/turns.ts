import { type Ending, type Settlement, settle } from '../../task/outcome.ts'
import { isFinal } from '../../task/status.ts'
import type { Task } from '../../task/task.ts'
import type { EngineOptions, Lease, Renewed, Settled, Turn, TurnAnswer } from '../engine.ts'
import { closedError } from '../refusals.ts'
import { Trips } from '../trips.ts'
import { emptyAnswer, isEmpty, type Waiter, Waiters } from '../waiters.ts'
import { Described } from './described.ts'
import { Heard, newsOf } from './heard.ts'
import {
  addOutcome,
  emptyPart,
  emptyPlacedPart,
  heldOf,
  lostOf,
  type Part,
  type PartAnswer,
  type PlacedPart,
  readTasks,
  tokenOf,
  VERDICT,
  writePart,
} from './parts.ts'
import type { Registry } from './registry.ts'
import { type Found, type LeaseState, leaseOf, taskOfParts, typeOfLane } from './rows.ts'
import type { RedisStore } from './store.ts'
import { Untold } from './untold.ts'

const STARTED_MAX = 100_000
const TRIPS_MAX = 3
const WEIGHT_MAX = 64
/** A decision that was overtaken is taken again on the state as it is. */
const DECISIONS_MAX = 5

/** The turns of this process's workers, and those that wait. */
export class Turns {
  readonly #store: RedisStore
  readonly #registry: Registry
  readonly #options: EngineOptions
  readonly #process: string
  readonly #trips: Trips<Part, PartAnswer>[]
  /** What this process started, by token: settling need not ask for it first. */
  readonly #started = new Map<string, LeaseState>()
  readonly #described = new Described()
  readonly #waiters = new Waiters()
  readonly #untold = new Untold()
  readonly #heard = new Heard()
  readonly #listen: () => Promise<void>
  readonly #dueAt: (partition: number, time: number) => void
  #closed = false

  /**
   * @param listen resolves when messages to this process are heard
   * @param dueAt is told when a turn that waits may have something to claim
   */
  constructor(
    store: RedisStore,
    registry: Registry,
    options: EngineOptions,
    process: string,
    listen: () => Promise<void>,
    dueAt: (partition: number, time: number) => void,
  ) {
    this.#dueAt = dueAt
    this.#store = store
    this.#registry = registry
    this.#options = options
    this.#process = process
    this.#listen = listen
    const weightOf = (part: Part) => 1 + part.outcomes.length + part.want
    this.#trips = store.perPartition(
      (partition) =>
        new Trips((parts) => this.#send(partition, parts), { weightOf, weightMax: WEIGHT_MAX, underWayMax: TRIPS_MAX }),
    )
  }

  async turn(turn: Turn): Promise<TurnAnswer> {
    const { outcomes = [], renewals = [], waitMs = 0, leaving = false } = turn
    const reports = leaving || outcomes.length + renewals.length > 0
    const waits = waitMs > 0 && !reports
    if (waits) {
      await this.#listen()
      if (this.#closed) return emptyAnswer()
      if (this.#isExpected(turn)) return this.#wait(turn)
    }
    for (;;) {
      const since = this.#heard.count
      const answer = await this.#go(turn, waits)
      if (!waits || !isEmpty(answer)) return answer
      if (!this.#hasNews(turn, since)) return this.#wait(turn)
    }
  }

  /** Settles leases that are due, each as `endingOf` says; returns how many. */
  async endDue(partition: number, leases: readonly string[]): Promise<number> {
    const due: LeaseState[] = []
    const now = this.#store.now()
    for (let index = 0; index < leases.length; index += 3) {
      const [ref, lane, record] = leases.slice(index, index + 3) as [string, string, string]
      due.push({ partition, ref, lane, ...leaseOf(record) })
    }
    await this.#registry.know(due.map(({ lane }) => typeOfLane(lane)))
    const part = emptyPart({ id: this.#process, host: '', pid: 0, types: [], concurrency: 0, startedAt: 0 })
    const settlements = due.map((state) => {
      const late = state.deadlineAt !== null && state.deadlineAt <= now
      const settlement = this.#settlementOf(state, { kind: late ? 'timeout' : 'lost' }, now)
      addOutcome(part, state, settlement, this.#process, true)
      return settlement
    })
    const [, verdicts] = await this.#trips[partition]!.add(part)
    verdicts.forEach((verdict, index) => {
      const { lane, attempts } = due[index]!
      const { status, attempts: after } = settlements[index]!
      if (verdict !== VERDICT.done) return
      if (isFinal(status) || after > attempts) this.#registry.rates.ended(typeOfLane(lane), null, isFinal(status))
    })
    return verdicts.filter((verdict) => verdict === VERDICT.done).length
  }

  /** There is something to claim of a type; `passOn` when only this process was told. */
  async wake(partition: number, type: string, passOn = true): Promise<void> {
    this.#heard.hear(type)
    for (;;) {
      const waiting = [...this.#waiters.ofType(type)].find((waiter) => !waiter.asking)
      if (!waiting) {
        // Whoever waits elsewhere may have it.
        if (passOn && [...this.#waiters.ofType(type)].length === 0) await this.#passOn(partition, type)
        return
      }
      if (!(await this.#ask(waiting))) return
    }
  }

  /** A worker has a cancel to hear of. */
  async wakeWorker(workerId: string): Promise<void> {
    // It asks also if it does not wait just now.
    if (this.#described.forget(workerId)) this.#heard.hear(newsOf(workerId))
    for (const waiter of this.#waiters.ofWorker(workerId)) if (!waiter.asking) await this.#ask(waiter)
  }

  /** Messages may have been lost: everything that waits asks again. */
  async wakeAll(): Promise<void> {
    this.#heard.doubt(this.#waiters.types())
    this.#described.forgetAll()
    for (const workerId of this.#waiters.workers()) await this.wakeWorker(workerId)
  }

  hasWaiters(): boolean {
    return this.#waiters.size > 0
  }

  close(): void {
    this.#closed = true
    this.#waiters.close()
  }

  /** Whether something was heard that a turn has to ask about which was asked before. */
  #hasNews({ types, worker, signal }: Turn, since: number): boolean {
    if (this.#closed || signal?.aborted) return false
    return this.#heard.hasHeard([...(types ?? worker.types), newsOf(worker.id)], since)
  }

  #isExpected({ want, types, worker }: Turn): boolean {
    const about = this.#described.aboutOf(worker, this.#store.now())
    return want > 0 && about === '' && this.#heard.isExpected(types ?? worker.types)
  }

  #wait(turn: Turn): Promise<TurnAnswer> {
    if (this.#closed) return Promise.resolve(emptyAnswer())
    return new Promise((resolve) => this.#waiters.add({ turn, resolve }))
  }

  /** Asks for what a waiting turn waits for; true when it was answered with something. */
  #ask(waiter: Waiter): Promise<boolean> {
    const since = this.#heard.count
    const asking = this.#go({ ...waiter.turn, outcomes: [], renewals: [] }, true).then(
      (answer) => {
        delete waiter.asking
        if (isEmpty(answer)) {
          return this.#hasNews(waiter.turn, since) ? this.#ask(waiter) : false
        }
        this.#waiters.take(waiter)
        waiter.resolve(answer)
        return true
      },
      () => {
        delete waiter.asking
        return false // Redis is away: it asks again when the connection is back.
      },
    )
    waiter.asking = asking
    return asking
  }

  async #passOn(partition: number, type: string): Promise<void> {
    await this.#store.run('turn', partition, [...this.#headArgs(), 1, type, 0, 0]).catch(() => undefined)
  }

  /** One turn over all partitions that it concerns. */
  async #go(turn: Turn, waits: boolean): Promise<TurnAnswer> {
    const { worker, outcomes = [], renewals = [], leaving = false, leaseMs = this.#options.leaseMs } = turn
    const settled: Settled[] = outcomes.map(() => ({ accepted: false, status: null }))
    const renewed: (Renewed | null)[] = renewals.map(() => null)
    const since = this.#heard.count
    const decisions = await this.#decide(outcomes)
    const about = leaving ? '' : this.#described.aboutOf(worker, this.#store.now())
    const byPartition = new Map<number, PlacedPart>()
    const partOf = (partition: number) => {
      const part = byPartition.get(partition) ?? { ...emptyPlacedPart(worker), about, leaving, leaseMs }
      byPartition.set(partition, part)
      return part
    }
    renewals.forEach(({ lease, progress }, index) => {
      const held = heldOf(lease)
      if (!held) return
      const part = partOf(held.partition)
      part.renewals.push({ ...held, progress: progress === undefined ? '' : JSON.stringify(progress) })
      part.renewalAt.push(index)
    })
    decisions.forEach((decision, index) => {
      if (!decision) return
      const part = partOf(decision.state.partition)
      addOutcome(part, decision.state, decision.settlement, worker.id)
      part.outcomeAt.push(index)
    })
    for (const type of turn.types ?? worker.types) {
      const part = partOf(this.#store.partitionOf(type))
      part.types = [...part.types, type]
    }
    if (byPartition.size === 0) partOf(0)
    const answer: TurnAnswer = { settled, renewed, ...this.#untold.take(turn) }
    const again: number[] = []
    const visit = async (partition: number, part: PlacedPart) => {
      // Told once, not to each partition.
      const worked = about === '' ? undefined : this.#described.takeWorked(worker.id)
      if (worked) part.worked = worked
      this.#store.partitions.note(partition)
      part.waits = waits && part.want > 0
      const trip = this.#trips[partition]!.add(part)
      const [renewedHere, verdicts, tasks, cancels, now] = await trip.catch((error: unknown) => {
        if (worked) this.#described.addWorked(worker.id, worked)
        throw error
      })
      if (about !== '') this.#described.told(worker, this.#store.now())
      if (leaving) this.#described.left(worker.id)
      renewedHere.forEach((item, index) => {
        if (item === null) return
        const expiresAt = this.#store.toLocal(Number(item[0]))
        renewed[part.renewalAt[index]!] = { expiresAt, cancelRequested: item[1] === 1 }
      })
      verdicts.forEach((verdict, index) => {
        const place = part.outcomeAt[index]!
        if (verdict === VERDICT.changed) again.push(place)
        if (verdict === VERDICT.done) settled[place] = this.#settledOf(outcomes[place]!, decisions[place]!)
      })
      answer.leases.push(...this.#leasesOf(tasks, { partition, workerId: worker.id, leaseMs, now }))
      answer.cancelRequested.push(...cancels.map((cancel) => tokenOf(partition, cancel)))
      if (part.waits && tasks.length + cancels.length === 0) this.#heard.expect(part.types, since)
    }
    let failure: unknown
    try {
      // Where several partitions are told something, that goes first: if it fails in one of them, all of it is told
      // again, and no task must have been claimed that nobody would hear of.
      const telling = [...byPartition].filter(([, part]) => part.outcomes.length + part.renewals.length > 0)
      if (telling.length > 1) {
        await Promise.all(telling.map(([partition, part]) => visit(partition, { ...part })))
        for (const [, part] of telling) Object.assign(part, { outcomes: [], renewals: [] })
      }
      for (const [partition, part] of byPartition) {
        part.want = leaving ? 0 : Math.max(0, turn.want - answer.leases.length)
        part.isBrief = byPartition.size > 1 && part.outcomes.length + part.renewals.length === 0 && !leaving
        await visit(partition, part).catch((error: unknown) => {
          // A node that is away keeps nobody from the tasks of the others.
          if (!part.isBrief) throw error
          failure ??= error
        })
      }
      if (failure && isEmpty(answer)) throw failure
      if (again.length > 0) answer.cancelRequested.push(...(await this.#decideAgain(turn, again, settled)))
      return answer
    } catch (error) {
      this.#untold.keep(worker.id, answer)
      throw error
    }
  }

  /** The outcomes whose state had changed are decided on what it is now. */
  async #decideAgain(turn: Turn, places: number[], settled: Settled[], tries = 1): Promise<string[]> {
    if (tries > DECISIONS_MAX) return []
    const outcomes = places.map((place) => turn.outcomes![place]!)
    for (const { lease } of outcomes) this.#started.delete(lease)
    const answer = await this.#go({ worker: turn.worker, want: 0, types: [], outcomes }, false)
    answer.settled.forEach((item, index) => {
      settled[places[index]!] = item
    })
    return answer.cancelRequested
  }

  /** What becomes of each task; null where the lease is not held any more. */
  async #decide(outcomes: NonNullable<Turn['outcomes']>) {
    const unknown = outcomes.filter(({ lease }) => !this.#started.has(lease))
    const found = unknown.length === 0 ? null : await this.#look(unknown.map(({ lease }) => lease))
    const states = outcomes.map(({ lease }) => this.#started.get(lease) ?? found?.get(lease) ?? null)
    const failing = states.flatMap((state, index) =>
      state && outcomes[index]!.outcome.kind !== 'success' ? [typeOfLane(state.lane)] : [],
    )
    if (failing.length > 0) await this.#registry.know(failing)
    const now = this.#store.now()
    return outcomes.map(({ outcome }, index) => {
      const state = states[index]
      if (!state) return null
      return { state, settlement: this.#settlementOf(state, outcome, now) }
    })
  }

  #settlementOf(state: LeaseState, ending: Ending, now: number): Settlement {
    const { delaysMs, jitter } = this.#registry.policy(typeOfLane(state.lane))
    const policy = { delaysMs, jitter, lostLeasesMax: this.#options.lostLeasesMax }
    return settle(state, ending, policy, now, this.#options.random())
  }

  /** Leases that another process started, or that this one knows to have changed. */
  async #look(tokens: readonly string[]): Promise<Map<string, LeaseState>> {
    const found = new Map<string, LeaseState>()
    const byPartition = Map.groupBy(
      tokens.flatMap((token) => {
        const held = heldOf(token)
        return held ? [{ token, ...held }] : []
      }),
      ({ partition }) => partition,
    )
    for (const [partition, leases] of byPartition) {
      const args = [leases.length, ...leases.map(({ ref }) => ref)]
      const answers = await this.#store.run<(Found | null)[]>('look', partition, args)
      answers.forEach((answer, index) => {
        const { token, ref, fence } = leases[index]!
        if (answer?.[0] !== 'L') return
        const state = { partition, ref, lane: answer[1], ...leaseOf(answer[2]) }
        if (state.fence === fence) found.set(token, state)
      })
    }
    return found
  }

  #settledOf(
    { lease, outcome }: NonNullable<Turn['outcomes']>[number],
    { state, settlement }: { state: LeaseState; settlement: Settlement },
  ): Settled {
    this.#started.delete(lease)
    const { status, attempts } = settlement
    const final = isFinal(status)
    if (attempts > state.attempts) {
      const well = status === 'success' ? 1 : 0
      this.#described.addWorked(state.workerId, { well, failed: 1 - well })
    }
    if (final || attempts > state.attempts) {
      this.#registry.rates.ended(typeOfLane(state.lane), this.#store.now() - state.startedAt, final)
    }
    return { accepted: outcome.kind !== 'success' || status === 'success', status }
  }

  #leasesOf(answer: PartAnswer[2], of: { partition: number; workerId: string; leaseMs: number; now: number }): Lease[] {
    const { partition, workerId, leaseMs, now } = of
    // Leases that are lost elsewhere stay in the memory of this process; it is only that.
    if (this.#started.size > STARTED_MAX) this.#started.clear()
    const leases: Lease[] = []
    readTasks(answer, (ref, lane, head, payload, extras, error) => {
      const task = taskOfParts(partition, ref, lane, head, payload, extras, error)
      const lostLeases = lostOf(head)
      leases.push(this.#start(task, { partition, ref, lane, workerId, lostLeases }, leaseMs, now))
    })
    return leases
  }

  #start(
    task: Task,
    known: Pick<LeaseState, 'partition' | 'ref' | 'lane' | 'workerId' | 'lostLeases'>,
    leaseMs: number,
    now: number,
  ): Lease {
    const { id, type, attempts, maxRetry, runAt, processTimeoutMs } = task
    task.status = 'processing'
    task.deliveries += 1
    task.startedAt = now
    task.updatedAt = now
    task.workerId = known.workerId
    const fence = String(task.deliveries)
    const lease = `${id}.${fence}`
    const deadlineAt = processTimeoutMs === 0 ? null : now + processTimeoutMs
    const expiresAt = now + leaseMs
    const running = { attempts, maxRetry, runAt, deadlineAt, cancelRequested: false }
    this.#started.set(lease, { ...known, ...running, fence, startedAt: now, expiresAt })
    this.#registry.rates.started(type, now - runAt)
    const local = (time: number) => this.#store.toLocal(time)
    return { lease, expiresAt: local(expiresAt), deadlineAt: deadlineAt === null ? null : local(deadlineAt), task }
  }

  async #send(partition: number, parts: Part[]): Promise<PartAnswer[]> {
    if (this.#closed && parts.every(({ outcomes, leaving }) => outcomes.length === 0 && !leaving)) throw closedError()
    const lanes = new Map(parts.flatMap((part) => [...part.lanes]))
    const args: (string | number)[] = [...this.#headArgs(), 0, lanes.size]
    for (const [no, name] of lanes) args.push(no, name)
    args.push(parts.length)
    for (const part of parts) writePart(args, part)
    const isBrief = parts.every((part) => part.isBrief)
    const [time, due, answers] = await this.#store.run<[string, string, PartAnswer[]]>('turn', partition, args, isBrief)
    this.#store.sawTime(time)
    for (const answer of answers) answer.push(Number(time))
    if (due !== '') this.#dueAt(partition, Number(due))
    return answers
  }

  #headArgs(): (string | number)[] {
    const { cancelGraceMs, retention } = this.#options
    return [this.#process, cancelGraceMs, retention.ageMs]
  }
}
