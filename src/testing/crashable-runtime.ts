import type { Queue } from '../queue/queue.ts'
import type { Time } from '../task/time.ts'
import { renewLeases } from '../worker/renewal.ts'
import type { Renewal, Runtime } from '../worker/runtime.ts'
import { type Interceptor, intercepted, never } from './interceptor.ts'
import type { VirtualTime } from './virtual-time.ts'

/**
 * The runtime of a worker that can be lost at any moment, like a killed process: from then on, none of its timers runs,
 * no call is sent, and no answer reaches it. Later actions of its handlers have no effect.
 */
export class CrashableRuntime implements Runtime {
  readonly time: Time
  /** Interceptor of its calls to the engine. */
  readonly queue: Queue
  #lives = true

  constructor(queue: Queue, time: VirtualTime, interceptor: Interceptor) {
    this.time = {
      now: time.now,
      elapsed: time.elapsed,
      after: (ms, run) => time.after(ms, () => this.#lives && run()),
    }
    this.queue = intercepted(queue, async (verb, call) => {
      if (!this.#lives) return never()
      time.signOfLife()
      try {
        return await interceptor(verb, call)
      } finally {
        time.signOfLife()
        if (!this.#lives) await never()
      }
    })
  }

  get lives(): boolean {
    return this.#lives
  }

  lose(): void {
    this.#lives = false
  }

  /** Runs in the same thread: virtual time does not move while a handler blocks. */
  readonly renew = ({ lost, logger: _logger, queue, ...input }: Renewal): (() => Promise<void>) => {
    const stop = new AbortController()
    const renewing = renewLeases(queue, input, stop.signal, lost, this.time)
    return () => {
      stop.abort()
      return renewing
    }
  }

  /** Uncaught exceptions belong to the process of the tests. */
  readonly catchUncaught = () => () => undefined
}
