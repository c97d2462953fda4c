import type { Logger } from 'pino'
import type { Health, Queue, TypeInfo, WorkerInfo } from './queue.ts'

type Check = Health['checks'][number]

const LOOK_MS_MAX = 10_000
/** Looks during the time after which a type is stalled. */
const LOOKS = 3
/** Types that one look examines, the next ones at the next look. */
const TYPES_AT_ONCE = 50
/** Tasks at the start of a type's list that are examined: groups at their limit have theirs there as well. */
const HEADS = 20
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
}

/**
 * Finds types that are stalled: a task is the next one to start, all limits allow it and a live worker has a free slot,
 * but it does not start. While every part works, this does not happen, so it points to a worker that is alive and takes
 * nothing, or to a fault of XQueue.
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
    const until = performance.now() - this.#options.afterMs
    return [...this.#waiting].flatMap(([type, { taskId, since }]) => (since <= until ? [{ type, taskId }] : []))
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
    const candidates = types.map(({ type }) => type).filter((type) => workers.some((worker) => isFree(worker, type)))
    for (const type of this.#waiting.keys()) if (!candidates.includes(type)) this.#waiting.delete(type)
    if (this.#from >= candidates.length) this.#from = 0
    const some = candidates.slice(this.#from, this.#from + TYPES_AT_ONCE)
    this.#from += TYPES_AT_ONCE
    for (const type of some) {
      const taskId = await this.#firstReady(type)
      if (taskId === null) this.#waiting.delete(type)
      else if (this.#waiting.get(type)?.taskId !== taskId) this.#waiting.set(type, { taskId, since: performance.now() })
    }
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

function isFree({ types, running, concurrency }: WorkerInfo, type: string): boolean {
  return running < concurrency && types.includes(type)
}
