import { setImmediate as nextTick } from 'node:timers/promises'
import type { Time } from '../task/time.ts'

interface Timer {
  at: number
  order: number
  run: (() => void) | null
}

/** Idle iterations of the event loop after which everything counts as waiting. */
const QUIET_TICKS = 3

/**
 * Virtual time that moves only on request. Timers run one by one in the order of their times. After each timer, all its
 * effects run until they wait for time again, so every run has the same steps in the same order.
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

  /** Sets the wall clock forward or back; timers are not affected. */
  stepClock(ms: number): void {
    this.#epoch += ms
  }

  /** Time until the next timer; Infinity without one. */
  untilNext(): number {
    while (this.#heap[0]?.run === null) this.#pop()
    return (this.#heap[0]?.at ?? Number.POSITIVE_INFINITY) - this.#elapsed
  }

  /** Advances by milliseconds and runs due timers one at a time. */
  async pass(ms: number): Promise<void> {
    const end = this.#elapsed + ms
    await this.settle()
    for (let left = ms; this.untilNext() <= left; left = end - this.#elapsed) await this.step()
    this.#elapsed = end
    await this.settle()
  }

  /** Moves to the next timer and runs it; false without one. */
  async step(): Promise<boolean> {
    if (this.untilNext() === Number.POSITIVE_INFINITY) return false
    const timer = this.#pop()
    this.#elapsed = Math.max(timer.at, this.#elapsed)
    timer.run!()
    await this.settle()
    return true
  }

  /** Reports activity other than timers: a call to the engine, or its answer. */
  signOfLife(): void {
    this.#signs += 1
  }

  /** Runs everything that does not wait for time. */
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
