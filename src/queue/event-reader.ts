import type { EventsPage, EventsQuery, EventsReader } from '../store/store.ts'
import { Leader, type LeaseStore } from './leader.ts'

/** Interval at which a reader checks whether another owner's lease has become free. */
const CHECK_AGAIN_MS = 250

/** The parts of the store that readers need. */
type Outbox<Page> = LeaseStore & { events(query: EventsQuery): Promise<Page> }

/** Reads the outbox for named readers, as `EventsReader` describes: the lease of a reader holds its position. */
export class EventReader<Page extends EventsPage = EventsPage> {
  readonly #store: Outbox<Page>
  readonly #leader: Leader
  readonly #closing = new AbortController()

  constructor(store: Outbox<Page>) {
    this.#store = store
    this.#leader = new Leader(store)
  }

  async read({ after, max, waitMs = 0, signal }: EventsQuery, reader: EventsReader): Promise<Page & { held: boolean }> {
    const { name, owner, leaseMs, resumes = false } = reader
    const endsAt = performance.now() + waitMs
    for (;;) {
      const lease = await this.#leader.take(name, owner, leaseMs, (position, wasMine) => {
        if (position === null) return resumes ? null : this.#now()
        return wasMine && after !== null ? after : position
      })
      const leftMs = endsAt - performance.now()
      if (lease.isHeld) {
        // Waiting does not renew the lease.
        const waits = Math.min(leftMs, leaseMs / 2)
        const query = { after: lease.value, max, ...(waits > 0 && { waitMs: waits }), ...(signal && { signal }) }
        return { ...(await this.#store.events(query)), held: true }
      }
      const isOver = !lease.isAnothers || leaseMs === 0 || leftMs <= 0
      if (isOver || signal?.aborted || this.#closing.signal.aborted) {
        return { events: [], last: lease.value, gap: false, held: false } as unknown as Page & { held: boolean }
      }
      await this.#pause(Math.min(leftMs, CHECK_AGAIN_MS), signal)
    }
  }

  /** Ends the waits for leases. */
  close(): void {
    this.#closing.abort()
  }

  async #now(): Promise<string> {
    return (await this.#store.events({ after: null, max: 1 })).last
  }

  #pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
    const signals = [this.#closing.signal, ...(signal ? [signal] : [])]
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        for (const one of signals) one.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      for (const one of signals) one.addEventListener('abort', done, { once: true })
    })
  }
}

/** Reads the outbox of one store for named readers; for code below the queue. */
export function readNamed<Page extends EventsPage>(store: Outbox<Page>) {
  const events = new EventReader(store)
  return (query: EventsQuery, reader: EventsReader) => events.read(query, reader)
}
