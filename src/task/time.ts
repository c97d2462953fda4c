/** Runs something once, so many milliseconds from now. Calling what it answers calls that off. */
export type After = (ms: number, run: () => void) => () => void

/** Where time comes from: the machine, or a simulation that moves it. */
export interface Time {
  /** Milliseconds since the epoch; may be set back. */
  now: () => number
  /** Milliseconds since some moment; only grows. */
  elapsed: () => number
  after: After
}

export const MACHINE_TIME: Time = {
  // This very function: by it the Redis engine knows that it may go by the clock of Redis.
  now: Date.now,
  elapsed: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
}

/** Resolves after so many milliseconds, or when the signal fires. */
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
