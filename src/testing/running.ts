import type { Json } from '../task/json.ts'
import type { Handler } from '../worker/handler.ts'
import type { RegisteredHandler } from '../worker/handlers.ts'

interface Run {
  type: string
  workerId: string | null
  ended: Promise<void>
}

/** The handlers that are running, in real time: what they wait for, a virtual clock does not bring. */
export class Running {
  readonly #runs = new Set<Run>()
  readonly #patienceMs: number

  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs
  }

  /** The same handlers, seen when they run. */
  watched(handlers: ReadonlyMap<string, RegisteredHandler>): ReadonlyMap<string, RegisteredHandler> {
    return new Map(
      [...handlers].map(([type, handler]) => [type, { ...handler, run: this.#watched(type, handler.run) }]),
    )
  }

  /** Those of a worker that is lost are not waited for. */
  forget(workerId: string): void {
    for (const run of this.#runs) if (run.workerId === workerId) this.#runs.delete(run)
  }

  /** Waits until one of them has ended; false when none is running. */
  async ended(): Promise<boolean> {
    if (this.#runs.size === 0) return false
    let timer: NodeJS.Timeout | undefined
    const impatient = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(this.#hanging()), this.#patienceMs)
    })
    try {
      await Promise.race([...[...this.#runs].map(({ ended }) => ended), impatient])
    } finally {
      clearTimeout(timer)
    }
    return true
  }

  #watched(type: string, run: Handler<Json>['run']): Handler<Json>['run'] {
    return (task, context) => {
      const { promise: ended, resolve } = Promise.withResolvers<void>()
      const own: Run = { type, workerId: task.workerId, ended }
      const leave = () => {
        this.#runs.delete(own)
        resolve()
      }
      this.#runs.add(own)
      // Whose attempt is over is not waited for; a canceled one may still tidy up.
      const { signal } = context
      signal.addEventListener('abort', () => (signal.reason as Error).name === 'TimeoutError' && leave(), {
        once: true,
      })
      return (async () => run(task, context))().finally(leave)
    }
  }

  #hanging(): Error {
    const types = [...new Set([...this.#runs].map(({ type }) => type))].join(', ')
    const remedy = 'let it time out with advance(), or raise `patience`'
    return new Error(`a handler of ${types} has not ended after ${this.#patienceMs / 1_000} s: ${remedy}`)
  }
}
