import { setTimeout as sleep } from 'node:timers/promises'
import { FINAL_STATUSES } from '../task/status.ts'
import { specOfTask, type Task } from '../task/task.ts'
import type { Engine, ListQuery } from './engine.ts'
import { isRestorable, type Remembered } from './state.ts'

const BATCH = 500
const LOOK_MS = 200

/** What a migration tells of as it goes. */
export interface Progress {
  /** Types are ready there, and start nothing more here. */
  types?: number
  /** Tasks that still run here: they are waited for. */
  running?: number
  /** Tasks that are there now, since the start. */
  moved?: number
  /** Finished tasks that were copied, since the start. */
  copied?: number
  /** The id that a task has there, if it could not keep its own. */
  renamed?: { from: string; to: string }
}

/**
 * Brings everything that has not ended from one engine to another, and what has ended as far as the other can take it:
 * types and their limits, then finished tasks, then waiting ones with their ids and idempotency keys. A type is paused
 * here before its tasks move, and running tasks are waited for. A task is accepted there before it is canceled here,
 * and only once: a migration that was cut off is started again and goes on.
 */
export async function migrate(from: Engine, to: Engine, clock: () => number, tell: (progress: Progress) => void) {
  tell({ types: await moveTypes(from, to) })
  await untilNothingRuns(from, tell)
  await copyFinished(from, to, clock, tell)
  await moveWaiting(from, to, clock, tell)
}

async function moveTypes(from: Engine, to: Engine): Promise<number> {
  const there = new Set((await to.types()).map(({ type }) => type))
  const types = await from.types()
  for (const { type, maxConcurrency, groupConcurrency, rate, paused } of types) {
    // One that is there already has its own settings, perhaps from a run that was cut off after it paused it here.
    if (!there.has(type)) {
      await to.configureType(type, { declared: true, maxConcurrency, groupConcurrency, rate, paused })
    }
    await from.configureType(type, { paused: true })
  }
  return types.length
}

async function untilNothingRuns(from: Engine, tell: (progress: Progress) => void): Promise<void> {
  let told = 0
  for (;;) {
    // The leases of workers that are gone end by themselves.
    while ((await from.sweep(BATCH)).more);
    const running = (await from.types()).reduce((sum, { processing }) => sum + processing, 0)
    if (running !== told) tell({ running })
    told = running
    if (running === 0) return
    await sleep(LOOK_MS)
  }
}

async function copyFinished(from: Engine, to: Engine, clock: () => number, tell: (progress: Progress) => void) {
  if (!isRestorable(to)) return
  let copied = 0
  for (const status of FINAL_STATUSES) {
    for await (const tasks of pages(from, { status, limit: BATCH })) {
      const now = clock()
      await to.restore(tasks.map((task) => ({ task, spec: specOfTask(task, now) })).reverse())
      copied += tasks.length
      tell({ copied })
    }
  }
}

async function moveWaiting(from: Engine, to: Engine, clock: () => number, tell: (progress: Progress) => void) {
  let moved = 0
  // What was moved is not waiting any more: the list begins anew until it is empty.
  for (let more = true; more; ) {
    more = false
    for await (const tasks of pages(from, { status: 'pending', limit: BATCH })) {
      const now = clock()
      const waiting = tasks.map((task) => ({ task, spec: specOfTask(task, now) }))
      const isKept = isRestorable(to) ? (await to.restore(waiting)).map((restored) => restored !== 'foreign') : []
      const others = waiting.filter((_, index) => !isKept[index])
      for (const renamed of await accept(others, to)) tell({ renamed })
      await from.cancel({ ids: tasks.map(({ id }) => id) })
      moved += tasks.length
      more = true
      tell({ moved })
    }
  }
}

/** Accepts tasks under new ids, each by a key, so that it is the same one if it comes again. */
async function accept(tasks: readonly Remembered[], to: Engine): Promise<{ from: string; to: string }[]> {
  if (tasks.length === 0) return []
  const specs = tasks.map(({ task, spec }) => ({
    ...spec,
    idempotencyKey: spec.idempotencyKey ?? `xqueue:migrated:${task.id}`,
  }))
  const submitted = await to.submit(specs)
  return tasks.map(({ task }, index) => ({ from: task.id, to: submitted[index]!.task.id }))
}

async function* pages(from: Engine, query: ListQuery): AsyncGenerator<Task[]> {
  let cursor: string | null = null
  do {
    const page: Awaited<ReturnType<Engine['list']>> = await from.list({
      ...query,
      ...(cursor === null ? {} : { cursor }),
    })
    if (page.tasks.length > 0) yield page.tasks
    cursor = page.nextCursor
  } while (cursor !== null)
}
