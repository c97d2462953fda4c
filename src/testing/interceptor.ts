import type { Queue } from '../queue/queue.ts'

/** The calls of the port. */
export type Verb = {
  [Name in keyof Queue]-?: Queue[Name] extends (...args: never[]) => unknown ? Name : never
}[keyof Queue]

/** Forwards a call to the engine and its answer, or injects a fault. */
export type Interceptor = <Answer>(verb: Verb, call: () => Promise<Answer>) => Promise<Answer>

/** Wraps an engine with `interceptor`. */
export function intercepted(queue: Queue, interceptor: Interceptor): Queue {
  return new Proxy(queue, {
    get(target, name: Verb) {
      const value: unknown = target[name]
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => interceptor(name, () => value.apply(target, args) as Promise<unknown>)
    },
  })
}

/** Never answers, because the caller no longer exists. */
export function never(): Promise<never> {
  return new Promise(() => undefined)
}
