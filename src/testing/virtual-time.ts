import { setImmediate as nextTick } from 'node:timers/promises'
import type { Time } from '../task/time.ts'

interface Timer {
  at: number
  order: number
  run: (() => void) | null
}

/** So many turns of the event loop without a sign of life mean that everything waits. */
const QUIET_TICKS = 3

/**
 * Time that stands still unless it is moved. Timers run one by one, in the order in which they are due, and after each
 * one everything that it set off runs until it waits for time again: the same steps in the same order each time.
 */
export class VirtualTime implements Time {
  readonly #heap: Timer[] = []
  #elapsed = 0
  #epoch: number
  #orders = 0
  #signs = 0

  /** @param startAt milliseconds since the epoch */
  constructor(startAt: number) {
    this.#epoch = startAt
  }

  readonly now = (): number => this.#epoch + this.#elapsed

  readonly elapsed = (): number => this.#elapsed

  readonly after = (ms: number, run: () => void): (() => void) => {
    // Whole milliseconds, and not before the next one, as the machine's timers.
    const timer: Timer = { at: this.#elapsed + Math.max(Math.ceil(ms), 1), order: this.#orders++, run }
    this.#push(timer)
    this.#signs += 1
    return () => {
      timer.run = null
    }
  }

  /** Sets the clock forward or back; timers run when they would have. */
  stepClock(ms: number): void {
    this.#epoch += ms
  }

  /** How long it is until the next timer; Infinity: there is none. */
  untilNext(): number {
    while (this.#heap[0]?.run === null) this.#pop()
    return (this.#heap[0]?.at ?? Number.POSITIVE_INFINITY) - this.#elapsed
  }

  /** Passes so many milliseconds, running what is due on the way, one at a time. */
  async pass(ms: number): Promise<void> {
    const end = this.#elapsed + ms
    await this.settle()
    for (let left = ms; this.untilNext() <= left; left = end - this.#elapsed) await this.step()
    this.#elapsed = end
    await this.settle()
  }

  /** Moves to the next timer and runs it; false when there is none. */
  async step(): Promise<boolean> {
    if (this.untilNext() === Number.POSITIVE_INFINITY) return false
    const timer = this.#pop()
    this.#elapsed = Math.max(timer.at, this.#elapsed)
    timer.run!()
    await this.settle()
    return true
  }

  /** Something moves that is no timer: a call to the engine, or its answer. */
  signOfLife(): void {
    this.#signs += 1
  }

  /** Lets everything run that waits for no time. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < QUIET_TICKS; quiet++) {
      const before = this.#signs
      await nextTick()
      if (this.#signs !== before) quiet = -1
    }
  }

  #push(timer: Timer): void {
    const heap = this.#heap
    let place = heap.push(timer) - 1
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!isBefore(timer, heap[parent]!)) break
      heap[place] = heap[parent]!
      place = parent
    }
    heap[place] = timer
  }

  #pop(): Timer {
    const heap = this.#heap
    const first = heap[0]!
    const last = heap.pop()!
    if (heap.length === 0) return first
    let place = 0
    for (;;) {
      const left = place * 2 + 1
      if (left >= heap.length) break
      const child = left + 1 < heap.length && isBefore(heap[left + 1]!, heap[left]!) ? left + 1 : left
      if (!isBefore(heap[child]!, last)) break
      heap[place] = heap[child]!
      place = child
    }
    heap[place] = last
    return first
  }
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}
