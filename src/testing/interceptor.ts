import type { Engine } from '../engine/engine.ts'

/** The calls of the port. */
export type Verb = {
  [Name in keyof Engine]: Engine[Name] extends (...args: never[]) => unknown ? Name : never
}[keyof Engine]

/** Carries a call to the engine and its answer back, or does not: that is where faults happen. */
export type Interceptor = <Answer>(verb: Verb, call: () => Promise<Answer>) => Promise<Answer>

/** An engine that is reached through `interceptor`. */
export function intercepted(engine: Engine, interceptor: Interceptor): Engine {
  return new Proxy(engine, {
    get(target, name: Verb) {
      const value: unknown = target[name]
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => interceptor(name, () => value.apply(target, args) as Promise<unknown>)
    },
  })
}

/** Never answers: the caller is no longer there to hear it. */
export function never(): Promise<never> {
  return new Promise(() => undefined)
}
