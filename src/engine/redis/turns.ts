import { type Ending, type Settlement, settle } from '../../task/outcome.ts'
import { isFinal } from '../../task/status.ts'
import type { Task } from '../../task/task.ts'
import type { EngineOptions, Lease, Renewed, Settled, Turn, TurnAnswer, WorkerIdentity } from '../engine.ts'
import { closedError } from '../refusals.ts'
import { Trips } from '../trips.ts'
import { emptyAnswer, type Waiter, Waiters } from '../waiters.ts'
import {
  addOutcome,
  emptyPart,
  heldOf,
  lostOf,
  type Part,
  type PartAnswer,
  tokenOf,
  VERDICT,
  writePart,
} from './parts.ts'
import type { Registry } from './registry.ts'
import { type Found, type LeaseState, leaseOf, taskOfParts, typeOfLane } from './rows.ts'
import type { RedisStore } from './store.ts'

/** A worker's description is written again only when this old, not with every turn. */
const TOUCH_MS = 10_000
/** What a process waits for is asked for again after this long, should a message have been lost. */
const BELIEVE_MS = 20_000
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
  readonly #touched = new Map<string, { at: number; types: string }>()
  /** Attempts of workers since they were described last. */
  readonly #workedSince = new Map<string, Part['worked']>()
  readonly #waiters = new Waiters()
  /** Types that Redis will tell this process of, and since when. */
  readonly #expected = new Map<string, number>()
  /**
   * How much was heard, and of what type last: a message may come before the answer to what was asked earlier, on
   * another connection, and then the answer is out of date.
   */
  #heard = 0
  readonly #heardOf = new Map<string, number>()
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
      const heard = this.#heard
      const answer = await this.#go(turn, waits)
      if (!waits || answer.leases.length + answer.cancelRequested.length > 0) return answer
      if (!this.#hasHeard(turn, heard)) return this.#wait(turn)
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
    this.#hear(type)
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
    if (this.#touched.delete(workerId)) this.#hear(`worker ${workerId}`)
    for (const waiter of this.#waiters.ofWorker(workerId)) if (!waiter.asking) await this.#ask(waiter)
  }

  /** Messages may have been lost: everything that waits asks again. */
  async wakeAll(): Promise<void> {
    for (const type of [...this.#expected.keys(), ...this.#waiters.types()]) this.#hear(type)
    this.#touched.clear()
    for (const workerId of this.#waiters.workers()) await this.wakeWorker(workerId)
  }

  hasWaiters(): boolean {
    return this.#waiters.size > 0
  }

  close(): void {
    this.#closed = true
    this.#waiters.close()
  }

  #hear(name: string): void {
    this.#expected.delete(name)
    this.#heard += 1
    this.#heardOf.set(name, this.#heard)
  }

  /** Whether something was heard since that a waiting turn has to ask about. */
  #hasHeard({ types, worker }: Turn, since: number): boolean {
    if (this.#closed || this.#heard === since) return false
    return [...(types ?? worker.types), `worker ${worker.id}`].some((name) => (this.#heardOf.get(name) ?? 0) > since)
  }

  #isExpected(turn: Turn): boolean {
    const types = turn.want > 0 ? (turn.types ?? turn.worker.types) : []
    const now = Date.now()
    return (
      types.length > 0 &&
      this.#aboutOf(turn.worker) === '' &&
      types.every((type) => now - (this.#expected.get(type) ?? 0) < BELIEVE_MS)
    )
  }

  #wait(turn: Turn): Promise<TurnAnswer> {
    if (this.#closed) return Promise.resolve(emptyAnswer())
    return new Promise((resolve) => this.#waiters.add({ turn, resolve }))
  }

  /** Asks for what a waiting turn waits for; true when it was answered with something. */
  #ask(waiter: Waiter): Promise<boolean> {
    const heard = this.#heard
    const asking = this.#go({ ...waiter.turn, outcomes: [], renewals: [] }, true).then(
      (answer) => {
        delete waiter.asking
        if (answer.leases.length + answer.cancelRequested.length === 0) {
          return this.#hasHeard(waiter.turn, heard) && !waiter.turn.signal?.aborted ? this.#ask(waiter) : false
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
    const heard = this.#heard
    const decisions = await this.#decide(outcomes)
    const about = leaving ? '' : this.#aboutOf(worker)
    const byPartition = new Map<number, Part & { outcomeAt: number[]; renewalAt: number[] }>()
    const partOf = (partition: number) => {
      const part = byPartition.get(partition) ?? {
        ...emptyPart(worker),
        about,
        leaving,
        leaseMs,
        outcomeAt: [],
        renewalAt: [],
      }
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
    const answer: TurnAnswer = { settled, renewed, leases: [], cancelRequested: [] }
    const again: number[] = []
    for (const [partition, part] of byPartition) {
      if (about !== '') part.worked = this.#workedSince.get(worker.id) ?? part.worked
      this.#store.partitions.note(partition)
      part.want = leaving ? 0 : Math.max(0, turn.want - answer.leases.length)
      part.waits = waits && part.want > 0
      const [renewedHere, verdicts, tasks, cancels, now] = await this.#trips[partition]!.add(part)
      if (about !== '') {
        this.#touched.set(worker.id, { at: this.#store.now(), types: String(worker.types) })
        this.#workedSince.delete(worker.id)
      }
      if (leaving) {
        this.#touched.delete(worker.id)
        this.#workedSince.delete(worker.id)
      }
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
      answer.leases.push(...this.#leasesOf(partition, tasks, worker.id, leaseMs, now))
      answer.cancelRequested.push(...cancels.map((cancel) => tokenOf(partition, cancel)))
      if (part.waits && tasks.length + cancels.length === 0) {
        for (const type of part.types) {
          if ((this.#heardOf.get(type) ?? 0) <= heard) this.#expected.set(type, Date.now())
        }
      }
    }
    if (again.length > 0) await this.#decideAgain(turn, again, settled)
    return answer
  }

  /** The outcomes whose state had changed are decided on what it is now. */
  async #decideAgain(turn: Turn, places: number[], settled: Settled[], tries = 1): Promise<void> {
    if (tries > DECISIONS_MAX) return
    const outcomes = places.map((place) => turn.outcomes![place]!)
    for (const { lease } of outcomes) this.#started.delete(lease)
    const answer = await this.#go({ worker: turn.worker, want: 0, types: [], outcomes }, false)
    answer.settled.forEach((item, index) => {
      settled[places[index]!] = item
    })
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
    if (attempts > state.attempts) this.#worked(state.workerId)[status === 'success' ? 'well' : 'failed'] += 1
    if (final || attempts > state.attempts) {
      this.#registry.rates.ended(typeOfLane(state.lane), this.#store.now() - state.startedAt, final)
    }
    return { accepted: outcome.kind !== 'success' || status === 'success', status }
  }

  /** Reads the tasks of an answer, see turn.lua. */
  #leasesOf(
    partition: number,
    answer: readonly (string | number)[],
    workerId: string,
    leaseMs: number,
    now: number,
  ): Lease[] {
    const leases: Lease[] = []
    // Leases that are lost elsewhere stay in the memory of this process; it is only that.
    if (this.#started.size > STARTED_MAX) this.#started.clear()
    const take = (ref: string, lane: string, head: string, payload: string, extras: string, error: string) => {
      const task = taskOfParts(partition, ref, lane, head, payload, extras, error)
      const lostLeases = lostOf(head)
      leases.push(this.#start(task, { partition, ref, lane, workerId, lostLeases }, leaseMs, now))
    }
    for (let at = 0; at < answer.length; ) {
      const [lane, head] = [answer[at] as string, answer[at + 1] as string]
      if (head === '') {
        const [ref, ownHead, payload, extras, error] = answer.slice(at + 2, at + 7) as [string, ...string[]]
        take(ref, lane, ownHead!, payload!, extras!, error!)
        at += 7
        continue
      }
      const end = at + 4 + (answer[at + 2] as number) * 2
      const no = answer[at + 3] as string
      for (at += 4; at < end; at += 2) take(`${no}.${answer[at]}`, lane, head, answer[at + 1] as string, '', '')
    }
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

  #worked(workerId: string): Part['worked'] {
    const worked = this.#workedSince.get(workerId) ?? { well: 0, failed: 0 }
    this.#workedSince.set(workerId, worked)
    return worked
  }

  #aboutOf(worker: WorkerIdentity): string {
    const before = this.#touched.get(worker.id)
    const now = this.#store.now()
    const types = String(worker.types)
    if (before && before.types === types && now - before.at < TOUCH_MS && now >= before.at) return ''
    return JSON.stringify(worker)
  }

  async #send(partition: number, parts: Part[]): Promise<PartAnswer[]> {
    if (this.#closed && parts.every(({ outcomes, leaving }) => outcomes.length === 0 && !leaving)) throw closedError()
    const lanes = new Map(parts.flatMap((part) => [...part.lanes]))
    const args: (string | number)[] = [...this.#headArgs(), 0, lanes.size]
    for (const [no, name] of lanes) args.push(no, name)
    args.push(parts.length)
    for (const part of parts) writePart(args, part)
    const [time, due, answers] = await this.#store.run<[string, string, PartAnswer[]]>('turn', partition, args)
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
