import type { Engine } from '../engine/engine.ts'
import type { Time } from '../task/time.ts'
import { renewLeases } from '../worker/renewal.ts'
import type { Renewal, Runtime } from '../worker/runtime.ts'
import { type Interceptor, intercepted, never } from './interceptor.ts'
import type { VirtualTime } from './virtual-time.ts'

/**
 * Where one worker lives that may be lost at any moment, as with a process that is killed: from then on none of its
 * timers runs, none of its calls is sent, and no answer reaches it. What its handlers do after that nobody hears.
 */
export class CrashableRuntime implements Runtime {
  readonly time: Time
  /** How it reaches the engine. */
  readonly engine: Engine
  #lives = true

  constructor(engine: Engine, time: VirtualTime, interceptor: Interceptor) {
    this.time = {
      now: time.now,
      elapsed: time.elapsed,
      after: (ms, run) => time.after(ms, () => this.#lives && run()),
    }
    this.engine = intercepted(engine, async (verb, call) => {
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

  /** In this same thread: time stands still while a handler blocks it. */
  readonly renew = ({ lost, logger: _logger, engine, ...input }: Renewal): (() => Promise<void>) => {
    const stop = new AbortController()
    const renewing = renewLeases(engine, input, stop.signal, lost, this.time.after)
    return () => {
      stop.abort()
      return renewing
    }
  }

  /** The process is the tests', and so is what nobody caught in it. */
  readonly catchUncaught = () => () => undefined
}
