/** Time for the start to unwind after a signal; then the process ends. */
export const START_ENDS_MS = 5_000

/**
 * SIGTERM and SIGINT, caught from the first line of a process. Process 1 of a container ignores signals that it does
 * not catch, so it could only be killed while it waits for its store. A process that ends half started would keep its
 * leases until they expire. A second signal ends the process at once.
 */
export class StopSignals {
  readonly #stop = new AbortController()
  #isStarting = true
  #tell: ((signal: string, isStarting: boolean) => void) | undefined

  constructor() {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => this.#onSignal(signal))
  }

  /** Aborted by the first signal. */
  get signal(): AbortSignal {
    return this.#stop.signal
  }

  /** Reports the first signal, also one that arrived earlier. */
  on(tell: (signal: string, isStarting: boolean) => void): void {
    this.#tell = tell
    if (this.signal.aborted) tell(this.signal.reason, true)
  }

  /** The start is complete: resolves with the first signal. */
  async wanted(): Promise<void> {
    this.#isStarting = false
    if (this.signal.aborted) return
    await new Promise<void>((resolve) => this.signal.addEventListener('abort', () => resolve()))
  }

  #onSignal(signal: string): void {
    if (this.signal.aborted) process.exit(1)
    if (this.#isStarting) setTimeout(() => process.exit(1), START_ENDS_MS).unref()
    this.#tell?.(signal, this.#isStarting)
    this.#stop.abort(signal)
  }
}
