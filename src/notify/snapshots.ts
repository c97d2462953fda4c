import type { Queue } from '../queue/queue.ts'
import type { Task } from '../task/task.ts'
import type { Topics } from './topics.ts'

/** A subscriber to all tasks gets the states of the newest tasks: as many as this, and as many bytes. */
export const STATES_MAX = 1_000
export const STATES_BYTES_MAX = 8 * 1_048_576
/** Results of this many are in memory beside their states while a snapshot is read. */
const PAGE = 50
/** Snapshots that are being sent at once: more subscribers wait for one of them to be done with. */
const SNAPSHOTS_MAX = 8

export interface State {
  topic: string
  payload: Buffer
  /** The task whose state it is; a worker's has none. */
  task?: Pick<Task, 'id' | 'type' | 'group'>
}

/**
 * The present states of the newest tasks, oldest first. Subscribers that come together share one buffer: a snapshot is
 * read after each of them has come, so it holds whatever they were not told as a change. There are few snapshots at a
 * time, however many subscribers there are and however slowly they read.
 */
export class Snapshots {
  readonly #queue: Queue
  readonly #topics: Topics
  readonly #waiting: PromiseWithResolvers<Snapshot>[] = []
  #alive = 0
  #reading = false

  constructor(queue: Queue, topics: Topics) {
    this.#queue = queue
    this.#topics = topics
  }

  /** A snapshot of this moment or a later one, to be given back with `release`. */
  take(): Promise<Snapshot> {
    const waiting = Promise.withResolvers<Snapshot>()
    this.#waiting.push(waiting)
    // Those that subscribe in the same moment go along.
    setImmediate(() => void this.#read())
    return waiting.promise
  }

  async #read(): Promise<void> {
    if (this.#reading || this.#alive >= SNAPSHOTS_MAX) return
    const taking = this.#waiting.splice(0)
    if (taking.length === 0) return
    this.#reading = true
    this.#alive += 1
    let holders = taking.length
    const release = () => {
      holders -= 1
      if (holders > 0) return
      this.#alive -= 1
      void this.#read()
    }
    try {
      const snapshot = { states: await this.#states(), release }
      for (const { resolve } of taking) resolve(snapshot)
    } catch (error) {
      this.#alive -= 1
      for (const { reject } of taking) reject(error)
    } finally {
      this.#reading = false
      void this.#read()
    }
  }

  async #states(): Promise<State[]> {
    const states: State[] = []
    let bytes = 0
    for (let cursor: string | undefined; ; ) {
      const page = await this.#queue.list({ limit: PAGE, ...(cursor === undefined ? {} : { cursor }) })
      for (const task of page.tasks) {
        const { topic, payload } = this.#topics.ofTask(task)
        const { id, type, group } = task
        const state = { topic, payload: Buffer.from(payload()), task: { id, type, group } }
        bytes += state.payload.length
        if (states.length === STATES_MAX || bytes > STATES_BYTES_MAX) return states.reverse()
        states.push(state)
      }
      if (page.nextCursor === null) return states.reverse()
      cursor = page.nextCursor
    }
  }
}

export interface Snapshot {
  states: readonly State[]
  /** Once, by each that has taken it. */
  release(): void
}
