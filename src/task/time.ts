/** Runs a function once after a delay in milliseconds. The returned function cancels it. */
export type After = (ms: number, run: () => void) => () => void

/** Source of time: the machine, or a simulation that moves it. */
export interface Time {
  /** Milliseconds since the epoch; may be set back. */
  now: () => number
  /** Monotonic milliseconds. */
  elapsed: () => number
  after: After
}

export const MACHINE_TIME: Time = {
  // This very function: by it the Redis store knows that it may go by the clock of Redis.
  now: Date.now,
  elapsed: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
}

/** Resolves after a delay in milliseconds, or when the signal aborts. */
export function pause(ms: number, after: After, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      callOff()
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const callOff = after(ms, done)
    signal?.addEventListener('abort', done, { once: true })
  })
}
