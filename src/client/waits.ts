import { type TaskView, viewOfJson } from '../task/task-view.ts'
import { MACHINE_TIME, pause } from '../task/time.ts'
import { type Server, wasReached } from './call.ts'
import { isAway, isRefusedForNow, msAsTold } from './patience.ts'
import { type Line, notFound, waitOnce } from './wait-call.ts'

const ID_CHARS_MAX = 100
/** Tasks of one call. */
const TASKS_MAX = 1_000
/** Calls for few tasks at the same time: one more takes over the tasks of all of these but the largest. */
const SMALL_CALLS_MAX = 8
const SMALL = 500
/** Waits that begin within so long share a call. */
const GATHER_MS = 5
/** From the beginning of a call to that of the next one for the same tasks. */
const AGAIN_MS = 500

interface Waiter {
  resolve(task: TaskView): void
  reject(error: unknown): void
}

/** A call. */
interface Wait {
  /** The tasks that callers wait for. */
  ids: Set<string>
  /** The tasks that the server waits for: it ends the call after the last of them. */
  open: Set<string>
  stop: AbortController
}

/** The ends of tasks. All waits of a client share a few calls. */
export class Waits {
  readonly #server: Server
  readonly #waiters = new Map<string, Set<Waiter>>()
  readonly #calls = new Set<Wait>()
  /** Tasks for the next call. */
  #next = new Set<string>()
  #isGathering = false

  constructor(server: Server) {
    this.#server = server
  }

  /**
   * Waits for the end of a task, also while a server that was reached before is away.
   * @throws XQueueError `not_found` or another refusal; the reason of `signal` when it aborts
   */
  async end(id: string, signal?: AbortSignal): Promise<TaskView> {
    signal?.throwIfAborted()
    // It would be refused, and with it all waits that share its call.
    if (typeof id !== 'string' || id.length > ID_CHARS_MAX || !id.isWellFormed()) throw notFound(String(id))
    const waiters = this.#waiters.get(id) ?? new Set()
    if (waiters.size === 0) {
      this.#waiters.set(id, waiters)
      this.#next.add(id)
      this.#gather()
    }
    let leave = () => {}
    try {
      return await new Promise<TaskView>((resolve, reject) => {
        const waiter = { resolve, reject }
        const stop = () => reject(signal!.reason)
        waiters.add(waiter)
        signal?.addEventListener('abort', stop, { once: true })
        leave = () => {
          waiters.delete(waiter)
          signal?.removeEventListener('abort', stop)
        }
      })
    } finally {
      leave()
      if (waiters.size === 0) this.#leave(id)
    }
  }

  #leave(id: string): void {
    this.#waiters.delete(id)
    this.#next.delete(id)
    for (const wait of this.#calls) if (wait.ids.delete(id)) stopIfUseless(wait)
  }

  /** Sends a wait at once, and those that follow it soon together. */
  #gather(): void {
    if (this.#isGathering || this.#next.size === 0) return
    this.#isGathering = true
    Promise.resolve().then(() => this.#send())
    setTimeout(() => {
      this.#isGathering = false
      this.#gather()
    }, GATHER_MS)
  }

  #send(): void {
    const small = [...this.#calls].filter(({ ids }) => ids.size < SMALL).sort((a, b) => b.ids.size - a.ids.size)
    if (small.length >= SMALL_CALLS_MAX) {
      for (const taken of small.slice(1)) {
        this.#calls.delete(taken)
        for (const id of taken.ids) this.#next.add(id)
        taken.stop.abort()
      }
    }
    const ids = [...this.#next]
    this.#next.clear()
    for (let from = 0; from < ids.length; from += TASKS_MAX) void this.#wait(ids.slice(from, from + TASKS_MAX))
  }

  /** Makes a call. It is repeated for the tasks that have not ended by its end. */
  async #wait(tasks: readonly string[]): Promise<void> {
    const wait: Wait = { ids: new Set(tasks), open: new Set(tasks), stop: new AbortController() }
    this.#calls.add(wait)
    const begunAt = performance.now()
    let pauseMs = 0
    try {
      await waitOnce(this.#server, tasks, (line) => this.#ended(wait, line), wait.stop.signal)
    } catch (error) {
      if (isRefusedForNow(error)) pauseMs = msAsTold(error)
      else if (!(wasReached(this.#server) && isAway(error)) && this.#calls.has(wait)) this.#failed(wait, error)
    }
    // Otherwise another call has taken over.
    if (!this.#calls.delete(wait) || wait.ids.size === 0) return
    await pause(Math.max(pauseMs, begunAt + AGAIN_MS - performance.now()), MACHINE_TIME.after)
    for (const id of wait.ids) if (this.#waiters.has(id)) this.#next.add(id)
    this.#gather()
  }

  #ended(wait: Wait, line: Line): void {
    wait.ids.delete(line.id)
    wait.open.delete(line.id)
    stopIfUseless(wait)
    for (const { resolve, reject } of this.#waiters.get(line.id) ?? []) {
      if (line.status === null) reject(notFound(line.id))
      else resolve(viewOfJson(line))
    }
  }

  #failed(wait: Wait, error: unknown): void {
    for (const id of wait.ids) for (const { reject } of this.#waiters.get(id) ?? []) reject(error)
    wait.ids.clear()
  }
}

/** A call whose last task has ended is left to end by itself: its connection is used again. */
function stopIfUseless({ ids, open, stop }: Wait): void {
  if (ids.size === 0 && open.size > 0) stop.abort()
}
