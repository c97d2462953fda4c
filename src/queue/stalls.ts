import type { Logger } from 'pino'
import type { Health, Queue, TypeInfo, WorkerInfo } from './queue.ts'

type Check = Health['checks'][number]

const LOOK_MS_MAX = 10_000
/** Looks during the time after which a type is stalled. */
const LOOKS = 3
/** Types that one look examines, the next ones at the next look. */
const TYPES_AT_ONCE = 50
/** Tasks at the start of a type's list that are examined: groups at their limit have theirs there as well. */
const HEADS = 5
const NAMED_MAX = 3

export interface StallOptions {
  queue: Queue
  /** Time after which a task that does not start is a stall; 0: never. */
  afterMs: number
  logger: Logger
}

interface Waiting {
  taskId: string
  since: number
  /** When a worker with a free slot had called last, as seen first. */
  calledBefore: number
  /** Whether one has called since: a worker that was stopped, or that asks only now and then, has not. */
  hasCalled: boolean
}

/**
 * Finds types that are stalled: a task is the next one to start, all limits allow it and a worker with a free slot
 * keeps calling, but it does not start. While every part works, this does not happen, so it points to a worker that is
 * alive and takes nothing, or to a fault of XQueue.
 */
export class Stalls {
  readonly #options: StallOptions
  /** By type: the task that could start, and since when. */
  readonly #waiting = new Map<string, Waiting>()
  #from = 0
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> = Promise.resolve()
  #stopped = false

  constructor(options: StallOptions) {
    this.#options = options
  }

  start(): void {
    if (this.#options.afterMs > 0) this.#next()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    await this.#looking
  }

  /** A check of health that only degrades it, because tasks are still accepted and stored. */
  check(): Check {
    const stalled = this.stalled()
    const named = stalled.slice(0, NAMED_MAX).map(({ type, taskId }) => `${type} (task ${taskId})`)
    const more = stalled.length > NAMED_MAX ? ` and ${stalled.length - NAMED_MAX} more` : ''
    const seconds = this.#options.afterMs / 1_000
    const what = `ready for ${seconds} s, allowed by all limits, and a worker has a free slot, but nothing starts`
    const detail = stalled.length === 0 ? 'tasks start' : `${named.join(', ')}${more}: ${what}; restart its workers`
    return { name: 'stalled', ok: stalled.length === 0, detail, degrades: true }
  }

  stalled(): { type: string; taskId: string }[] {
    return [...this.#waiting].flatMap(([type, { taskId }]) => (this.isStalled(type) ? [{ type, taskId }] : []))
  }

  isStalled(type: string): boolean {
    const waiting = this.#waiting.get(type)
    return waiting?.hasCalled === true && performance.now() - waiting.since >= this.#options.afterMs
  }

  #next(): void {
    if (this.#stopped) return
    this.#timer = setTimeout(
      () => {
        this.#looking = this.#look()
          // The checks of the store report an outage.
          .catch((error: unknown) => this.#options.logger.debug({ err: error }, 'the search for stalls failed'))
          .finally(() => this.#next())
      },
      Math.min(this.#options.afterMs / LOOKS, LOOK_MS_MAX),
    ).unref()
  }

  async #look(): Promise<void> {
    const { queue } = this.#options
    const types = (await queue.types()).filter(mayStart)
    const workers = types.length > 0 ? await queue.workers() : []
    const called = new Map(types.map(({ type }) => [type, lastCall(workers, type)]))
    const candidates = [...called].flatMap(([type, at]) => (at === null ? [] : [type]))
    for (const type of this.#waiting.keys()) if ((called.get(type) ?? null) === null) this.#waiting.delete(type)
    if (this.#from >= candidates.length) this.#from = 0
    const some = candidates.slice(this.#from, this.#from + TYPES_AT_ONCE)
    this.#from += TYPES_AT_ONCE
    for (const type of some) {
      this.#note(type, await this.#firstReady(type), called.get(type)!)
    }
  }

  #note(type: string, taskId: string | null, calledAt: number): void {
    const before = this.#waiting.get(type)
    if (taskId === null) this.#waiting.delete(type)
    else if (before?.taskId === taskId) before.hasCalled ||= calledAt > before.calledBefore
    else this.#waiting.set(type, { taskId, since: performance.now(), calledBefore: calledAt, hasCalled: false })
  }

  /** The task of a type that the next free worker should start. */
  async #firstReady(type: string): Promise<string | null> {
    const { queue } = this.#options
    const { tasks } = await queue.list({ status: 'pending', type, limit: HEADS, bare: true })
    for (const { id } of tasks) if ((await queue.explain(id))?.reason === 'ready') return id
    return null
  }
}

function mayStart({ pending, delayed, dependent, paused, heldUntil, workers, ...type }: TypeInfo): boolean {
  if (paused || heldUntil !== null || workers === 0 || pending <= delayed + dependent) return false
  return type.maxConcurrency === null || type.processing < type.maxConcurrency
}

/** When a worker of the type with a free slot called last, or null. */
function lastCall(workers: readonly WorkerInfo[], type: string): number | null {
  const free = workers.filter(({ types, running, concurrency }) => running < concurrency && types.includes(type))
  return free.length === 0 ? null : Math.max(...free.map(({ lastSeen }) => lastSeen))
}
