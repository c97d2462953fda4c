import { pino } from 'pino'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { Sweeper } from '../../src/queue/sweeper.ts'
import { XQueueError } from '../../src/task/errors.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { pause } from '../../src/task/time.ts'
import { CrashableRuntime } from '../../src/testing/crashable-runtime.ts'
import type { Interceptor } from '../../src/testing/interceptor.ts'
import { VirtualTime } from '../../src/testing/virtual-time.ts'
import { Worker } from '../../src/worker/worker.ts'
import type { Line } from '../faults/history.ts'
import { LeaseTokens, recordedQueue } from '../faults/recorded-queue.ts'
import { noFigures } from './figures.ts'
import { drawnHandlers } from './handlers.ts'
import type { Plan } from './plan.ts'
import type { SeededRandom } from './random.ts'

const START = 1_700_000_000_000
const LATE_MS_MAX = 60
const VERY_LATE = 0.05
const RESPAWN_MS_MAX = 1_500
const logger = pino({ level: 'silent' })

/**
 * One simulated system: an engine, and the workers, sweepers and clients that reach it through faults, all in one
 * process and in virtual time.
 */
export class World {
  readonly time: VirtualTime
  readonly lines: Line[] = []
  readonly figures = noFigures()
  readonly queue: Queue
  readonly plan: Plan
  readonly #random: SeededRandom
  readonly #living = new Set<CrashableRuntime>()
  /** From then on nothing fails any more, so that everything can end. */
  #calm = false

  static async open(plan: Plan, random: SeededRandom, broken = (queue: Queue) => queue): Promise<World> {
    const time = new VirtualTime(START)
    const queue = await openQueue('sqlite::memory:', {
      clock: time.now,
      after: time.after,
      random: random.fork().next,
      leaseMs: plan.leaseMs,
      cancelGraceMs: 200,
      retention: { ageMs: 1e12, countMax: 1e9 },
      eventsMax: 1e9,
    })
    const world = new World(broken(queue), time, plan, random)
    for (const [type, { maxConcurrency, groupConcurrency, groupTurns, rate }] of Object.entries(plan.types)) {
      const retry = { ...RETRY_DEFAULTS, baseMs: 20, capMs: 100 }
      const handler = { maxConcurrency, groupConcurrency, groupTurns, rate, retry, payloadSchema: null, defaults: {} }
      await queue.configureType(type, { handler })
    }
    for (const [name, handler] of Object.entries(plan.limits)) await queue.configureLimit(name, { handler })
    for (let index = 0; index < plan.sweepers; index++) world.#startSweeper()
    for (let index = 0; index < plan.workers; index++) world.#startWorker()
    return world
  }

  private constructor(queue: Queue, time: VirtualTime, plan: Plan, random: SeededRandom) {
    this.queue = queue
    this.time = time
    this.plan = plan
    this.#random = random
  }

  readonly write = (line: Line): void => {
    this.lines.push(line)
  }

  /** Nothing fails any more; dead processes are replaced. */
  calm(): void {
    this.#calm = true
  }

  /** A runtime without a worker: a client's, or a sweeper's. */
  runtime(): CrashableRuntime {
    const random = this.#random.fork()
    return new CrashableRuntime(
      this.queue,
      this.time,
      this.#interceptor(random, () => undefined),
    )
  }

  async close(): Promise<void> {
    for (const runtime of this.#living) runtime.lose()
    await this.queue.close()
  }

  #startSweeper(): void {
    const runtime = this.runtime()
    new Sweeper(runtime.queue, logger, runtime.time).start()
    this.#living.add(runtime)
  }

  #startWorker(): void {
    const random = this.#random.fork()
    const die = () => this.#kill(runtime)
    const runtime: CrashableRuntime = new CrashableRuntime(this.queue, this.time, this.#interceptor(random, die))
    const { concurrency, claimAhead, leaseMs } = this.plan
    const tokens = new LeaseTokens()
    const worker = new Worker({
      queue: recordedQueue(runtime.queue, this.write, tokens, this.time.now),
      handlers: drawnHandlers(this, runtime, random.fork(), die, tokens),
      logger,
      concurrency,
      claimAhead,
      leaseMs,
      runtime,
    })
    this.#living.add(runtime)
    this.figures.workers += 1
    // One that cannot declare its types ends, and is started again.
    worker.start().catch(die)
  }

  #kill(runtime: CrashableRuntime): void {
    if (!runtime.lives) return
    runtime.lose()
    this.#living.delete(runtime)
    this.figures.deaths += 1
    this.time.after(this.#random.between(1, RESPAWN_MS_MAX), () => this.#startWorker())
  }

  /** Draws for each call what happens to it on its way. */
  #interceptor(random: SeededRandom, die: () => void): Interceptor {
    const { refused, answerLost, late, cutOff, diesAround } = this.plan.faults
    let cutOffUntil = 0
    return async (_verb, call) => {
      if (this.#calm) return call()
      if (this.time.elapsed() >= cutOffUntil && random.chance(cutOff)) {
        this.figures.cutOff += 1
        cutOffUntil = this.time.elapsed() + random.between(1, this.plan.leaseMs * 3)
      }
      if (this.time.elapsed() < cutOffUntil) throw unavailable()
      if (random.chance(late)) await this.#delay(random)
      if (random.chance(diesAround / 2)) die()
      if (random.chance(refused)) {
        this.figures.refused += 1
        throw unavailable()
      }
      const answer = await call()
      if (this.#calm) return answer
      if (random.chance(late)) await this.#delay(random)
      if (random.chance(diesAround / 2)) die()
      if (random.chance(answerLost)) {
        this.figures.answersLost += 1
        throw unavailable()
      }
      return answer
    }
  }

  /** Mostly a little late; sometimes so much that leases are over. */
  async #delay(random: SeededRandom): Promise<void> {
    this.figures.late += 1
    const most = random.chance(VERY_LATE) ? this.plan.leaseMs * 1.5 : LATE_MS_MAX
    await pause(random.between(1, most), this.time.after)
  }
}

function unavailable(): XQueueError {
  return new XQueueError('engine_unavailable', 'as the seed has it')
}
