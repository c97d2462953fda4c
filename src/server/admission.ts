/** Number of calls under way that are never too many, and of calls at once that never wait for too long. */
const CALLS_MIN = 1_000
const PASS_CALLS_MIN = 100
/** Time over which answers are counted. */
const WINDOW_MS = 250
/** Number of answers whose time is kept in each window. */
const SAMPLES = 64

export interface AdmissionLimits {
  /** Expected time from the arrival of a call to its answer above which further calls are refused. */
  waitMs: number
  /** Maximum number of calls without an answer. */
  callsMax: number
  /** Maximum number of bytes of their bodies. */
  bytesMax: number
}

export const ADMISSION: AdmissionLimits = { waitMs: 1_000, callsMax: 10_000, bytesMax: 256 * 1024 * 1024 }

/** `calls`: too many without an answer; `bytes`: too many bytes of these; `delay`: the event loop is too far behind. */
export type Overload = 'calls' | 'bytes' | 'delay'

/**
 * Refuses calls that would wait for too long, so that the others are answered in time. A call can wait in two places:
 *
 * - Before it is read. The calls that are handled in the same pass of the event loop have waited at least since its
 *   beginning, so the time of a call counts from there, and a pass that takes too long refuses the rest of its calls.
 * - For its answer. If half of the answers of a window took longer than half of `waitMs`, only so many calls are
 *   accepted from then on as are answered in that time. The number doubles with each window that is in time.
 *
 * There are no timers: an idle server does nothing.
 */
export class Admission {
  readonly #limits: AdmissionLimits
  readonly #elapsed: () => number
  readonly #afterPass: (run: () => void) => void
  #calls = 0
  #bytes = 0
  #callsMax: number
  /** Beginning of this pass of the event loop; null before its first call. */
  #passAt: number | null = null
  #passCalls = 0
  #windowAt = 0
  /** Maximum number of calls at once in this window. */
  #peak = 0
  #answers = 0
  readonly #samples = new Float64Array(SAMPLES)

  /** @param afterPass runs a function at the end of the pass of the event loop */
  constructor(limits: AdmissionLimits, elapsed: () => number, afterPass: (run: () => void) => void) {
    this.#limits = limits
    this.#elapsed = elapsed
    this.#afterPass = afterPass
    this.#callsMax = limits.callsMax
  }

  /** Calls without an answer. */
  get calls(): number {
    return this.#calls
  }

  /** Why a call with so many bytes would be refused now. */
  refusal(bytes: number): Overload | null {
    const passAt = this.#passAt ?? this.#beginPass()
    const { waitMs, bytesMax } = this.#limits
    if (this.#calls >= this.#callsMax) return 'calls'
    if (this.#calls > 0 && this.#bytes + bytes > bytesMax) return 'bytes'
    if (this.#passCalls >= PASS_CALLS_MIN && this.#elapsed() - passAt > waitMs / 2) return 'delay'
    return null
  }

  /** Accepts a call, and returns the time from which it counts, for `answered`; or why it is refused. */
  enter(bytes: number): number | Overload {
    const reason = this.refusal(bytes)
    if (reason !== null) return reason
    const passAt = this.#passAt!
    this.#passCalls += 1
    this.#calls += 1
    this.#bytes += bytes
    if (this.#calls > this.#peak) this.#peak = this.#calls
    return passAt
  }

  /** An accepted call has its answer. */
  answered(enteredAt: number, bytes: number): void {
    this.#calls -= 1
    this.#bytes -= bytes
    this.#samples[this.#answers % SAMPLES] = this.#elapsed() - enteredAt
    this.#answers += 1
  }

  #beginPass(): number {
    const now = this.#elapsed()
    this.#passAt = now
    this.#afterPass(() => {
      this.#passAt = null
      this.#passCalls = 0
    })
    if (now - this.#windowAt >= WINDOW_MS) this.#endWindow(now)
    return now
  }

  #endWindow(now: number): void {
    const targetMs = this.#limits.waitMs / 2
    if (this.#answers > 0) {
      // Few calls at once say nothing about how many would be too many.
      const isLate = this.#peak > CALLS_MIN && this.#medianMs() > targetMs
      const inTime = (this.#answers * targetMs) / (now - this.#windowAt)
      this.#callsMax = Math.min(
        isLate ? Math.max(Math.ceil(inTime), CALLS_MIN) : this.#callsMax * 2,
        this.#limits.callsMax,
      )
    }
    this.#windowAt = now
    this.#answers = 0
    this.#peak = this.#calls
  }

  #medianMs(): number {
    const kept = this.#samples.slice(0, Math.min(this.#answers, SAMPLES)).sort()
    return kept[kept.length >> 1]!
  }
}
