import { AsyncLocalStorage } from 'node:async_hooks'
import { type Principal, type Sight, sightOf } from '../access/principal.ts'
import type { Queue } from '../queue/queue.ts'
import { includes } from '../task/api-key.ts'
import { allowsType, boundsText } from '../task/bounds.ts'
import { BoundedQueue } from '../tenants/bounded.ts'
import { withoutContents } from '../tenants/without-contents.ts'

/** Number of tenants with cached queues. */
const TENANTS_MAX = 1_000

/**
 * The queue as the current caller sees it. Routes get this queue and do not know about tenants, so no route, not even
 * a new one, can return data outside of a key's bounds. Outside of a request, calls throw.
 */
export class Callers {
  readonly queue: Queue
  readonly #queue: Queue
  readonly #caller = new AsyncLocalStorage<Principal | null>()
  readonly #made = new Map<string, Queue>()
  /** The same by caller: calls within some hundred milliseconds share one caller object. */
  readonly #madeFor = new WeakMap<Principal, Queue>()

  constructor(queue: Queue) {
    this.#queue = queue
    this.queue = new Proxy(queue, {
      get: (_, name) => {
        const own = this.own()
        const verb = own[name as keyof Queue] as unknown
        return typeof verb === 'function' ? verb.bind(own) : verb
      },
    })
  }

  /** Runs `work` on behalf of this caller. */
  run(principal: Principal | null, work: () => void): void {
    this.#caller.run(principal, work)
  }

  /** The queue of the present caller, for work that goes on after its call; the same for callers who see the same. */
  own(): Queue {
    const principal = this.#principal()
    if (principal === null) return this.#make({ bounds: null, isFull: false })
    let made = this.#madeFor.get(principal)
    if (!made) {
      made = this.#make(sightOf(principal))
      this.#madeFor.set(principal, made)
    }
    return made
  }

  mayUse(type: string): boolean {
    const bounds = this.#principal()?.bounds ?? null
    return bounds === null || allowsType(bounds, type)
  }

  /** Whether the handler's values bound the caller's submissions: true for every key but those of operators. */
  isConfined(): boolean {
    const principal = this.#principal()
    return principal !== null && !(principal.bounds === null && includes(principal.scopes, 'admin'))
  }

  #principal(): Principal | null {
    const principal = this.#caller.getStore()
    if (principal === undefined) throw new Error('a route asked the engine outside of a request')
    return principal
  }

  #make({ bounds, isFull }: Sight): Queue {
    if (bounds === null && isFull) return this.#queue
    const name = `${isFull} ${bounds && boundsText(bounds)}`
    let made = this.#made.get(name)
    if (!made) {
      const within = bounds ? new BoundedQueue(this.#queue, bounds) : this.#queue
      made = isFull ? within : withoutContents(within)
      if (this.#made.size >= TENANTS_MAX) this.#made.clear()
      this.#made.set(name, made)
    }
    return made
  }
}
