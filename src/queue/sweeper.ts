import type { Logger } from 'pino'
import { MACHINE_TIME, type Time } from '../task/time.ts'
import type { Queue } from './queue.ts'

/** Tasks of each kind that one step of a sweep handles. */
const BATCH = 1_000
/**
 * Another process may have added something that is due earlier than this process knows, so it checks at least this
 * often.
 */
const PAUSE_MS_MAX = 1_000
const PAUSE_MS_MIN = 5

/**
 * The loop that processes what is due, as soon as it is due. Every process runs one; they do not interfere with each
 * other.
 */
export class Sweeper {
  readonly #queue: Queue
  readonly #logger: Logger
  readonly #time: Time
  #callOff: (() => void) | undefined
  #sweeping: Promise<void> = Promise.resolve()
  #stopped = true
  #failing = false

  constructor(queue: Queue, logger: Logger, time = MACHINE_TIME) {
    this.#queue = queue
    this.#logger = logger
    this.#time = time
  }

  start(): void {
    this.#stopped = false
    this.#schedule(PAUSE_MS_MIN)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#callOff?.()
    await this.#sweeping
  }

  #schedule(pauseMs: number): void {
    if (this.#stopped) return
    this.#callOff = this.#time.after(pauseMs, () => {
      this.#sweeping = this.#sweep()
    })
  }

  async #sweep(): Promise<void> {
    let pauseMs = PAUSE_MS_MAX
    try {
      const { more, nextAt } = await this.#queue.sweep(BATCH)
      this.#failing = false
      if (more) pauseMs = 0
      else if (nextAt !== null) {
        pauseMs = Math.min(Math.max(nextAt - this.#time.now(), PAUSE_MS_MIN), PAUSE_MS_MAX)
      }
    } catch (error) {
      // An outage may last for hours.
      this.#logger[this.#failing ? 'debug' : 'warn']({ err: error }, 'a sweep failed; the next one starts in a second')
      this.#failing = true
    }
    this.#schedule(pauseMs)
  }
}
