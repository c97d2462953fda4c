import type { Logger } from 'pino'
import type { Health } from './engine.ts'

type Check = Pick<Health['checks'][number], 'name' | 'ok' | 'detail'>

/** How often it looks: while all is well, and while something is not. */
const LOOK_MS = { well: 3_000, away: 500 } as const

export interface OutageOptions {
  /** The checks of health. */
  look: () => Promise<readonly Check[]>
  logger: Logger
  /** Told of each beginning and end, for metrics. */
  began: (check: string) => void
  ended: (check: string, seconds: number) => void
}

/** Tells when a store, or a part of it, goes away and when it is back: one line at each, the second with the length. */
export class Outages {
  readonly #options: OutageOptions
  readonly #since = new Map<string, number>()
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> = Promise.resolve()
  #stopped = false

  constructor(options: OutageOptions) {
    this.#options = options
  }

  start(): void {
    this.#next()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    await this.#looking
  }

  #next(): void {
    if (this.#stopped) return
    const pauseMs = this.#since.size > 0 ? LOOK_MS.away : LOOK_MS.well
    this.#timer = setTimeout(() => {
      this.#looking = this.#look().finally(() => this.#next())
    }, pauseMs).unref()
  }

  async #look(): Promise<void> {
    const { look, logger, began, ended } = this.#options
    const checks = await look().catch(() => null)
    // Without an answer nothing is known; the engine answers also while its store is away.
    if (checks === null || this.#stopped) return
    const failed = checks.filter(({ ok }) => !ok)
    for (const { name, detail } of failed) {
      if (this.#since.has(name)) continue
      this.#since.set(name, performance.now())
      began(name)
      logger.warn({ check: name, detail }, `${name} is not well`)
    }
    const failing = new Set(failed.map(({ name }) => name))
    for (const [name, since] of this.#since) {
      // A check that is left out while another one fails has not recovered.
      if (failing.has(name) || !checks.some((check) => check.name === name)) continue
      this.#since.delete(name)
      const seconds = Math.round(performance.now() - since) / 1_000
      ended(name, seconds)
      logger.info({ check: name, seconds }, `${name} is well again`)
    }
  }
}
