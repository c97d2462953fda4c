import type { Time } from '../task/time.ts'
import type { Attempt } from './attempt.ts'

/** Maximum of a Node timer. */
const TIMER_MS_MAX = 2 ** 31 - 1

/** Ends attempts that run for too long, with one timer for the next deadline of all instead of one for each. */
export class Deadlines {
  readonly #time: Time
  readonly #running: () => readonly (Attempt | null)[]
  #nextAt = Number.POSITIVE_INFINITY
  #callOff: (() => void) | undefined

  /** @param running the attempts to check; null for a task that has not started */
  constructor(time: Time, running: () => readonly (Attempt | null)[]) {
    this.#time = time
    this.#running = running
  }

  /** An attempt with this deadline has started. */
  add(deadlineAt: number): void {
    if (deadlineAt < this.#nextAt) this.#arm(deadlineAt)
  }

  close(): void {
    this.#callOff?.()
    this.#callOff = undefined
  }

  #arm(at: number): void {
    this.#callOff?.()
    this.#nextAt = at
    const leftMs = Math.min(Math.max(at - this.#time.now(), 0), TIMER_MS_MAX)
    this.#callOff = this.#time.after(leftMs, () => this.#check())
  }

  #check(): void {
    this.#callOff = undefined
    this.#nextAt = Number.POSITIVE_INFINITY
    const now = this.#time.now()
    for (const attempt of this.#running()) attempt?.checkDeadline(now)
    // Their ends may have started others.
    const next = Math.min(...this.#running().map((attempt) => attempt?.lease.deadlineAt ?? Number.POSITIVE_INFINITY))
    this.add(next)
  }
}
