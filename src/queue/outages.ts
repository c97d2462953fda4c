import type { Logger } from 'pino'
import type { Health } from './queue.ts'

type Check = Pick<Health['checks'][number], 'name' | 'ok' | 'detail'>

/** Interval between checks while one fails. */
const AWAY_MS = 500

export interface OutageOptions {
  /** Reads the checks of health. */
  readChecks: () => Promise<readonly Check[]>
  /** Interval between checks while all pass. */
  everyMs: number
  logger: Logger
  /** Called at each beginning and end, for metrics. */
  began: (check: string) => void
  ended: (check: string, seconds: number) => void
}

/**
 * Reports when a store, or a part of it, becomes unavailable and when it recovers: one log line each, the second with
 * the duration.
 */
export class Outages {
  readonly #options: OutageOptions
  readonly #since = new Map<string, number>()
  #timer: NodeJS.Timeout | undefined
  #checking: Promise<void> = Promise.resolve()
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
    await this.#checking
  }

  #next(): void {
    if (this.#stopped) return
    const pauseMs = this.#since.size > 0 ? AWAY_MS : this.#options.everyMs
    this.#timer = setTimeout(() => {
      this.#checking = this.#check().finally(() => this.#next())
    }, pauseMs).unref()
  }

  async #check(): Promise<void> {
    const { readChecks, logger, began, ended } = this.#options
    const checks = await readChecks().catch(() => null)
    // Without an answer the state is unknown; the queue answers even while its store is unavailable.
    if (checks === null || this.#stopped) return
    const failed = checks.filter(({ ok }) => !ok)
    for (const { name, detail } of failed) {
      if (this.#since.has(name)) continue
      this.#since.set(name, performance.now())
      began(name)
      logger.warn({ check: name, detail }, `health check ${name} failed`)
    }
    const failing = new Set(failed.map(({ name }) => name))
    for (const [name, since] of this.#since) {
      // A check that is missing from the list while another one fails has not recovered.
      if (failing.has(name) || !checks.some((check) => check.name === name)) continue
      this.#since.delete(name)
      const seconds = Math.round(performance.now() - since) / 1_000
      ended(name, seconds)
      logger.info({ check: name, seconds }, `health check ${name} recovered`)
    }
  }
}
