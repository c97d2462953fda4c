import { setTimeout as sleep } from 'node:timers/promises'
import { effectOf } from '../task/flow.ts'
import { FINAL_STATUSES, isFinal } from '../task/status.ts'
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
  /** A task that has waited for others whose results do not come along: it has no predecessors there. */
  withoutResults?: string
  /** A task that stays here: it waits for the retry of one that has ended. */
  left?: string
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
  for (const { type, maxConcurrency, groupConcurrency, rate, paused, ceilings, retention } of types) {
    // One that is there already has its own settings, perhaps from a run that was cut off after it paused it here.
    if (!there.has(type)) {
      const limits = { maxConcurrency, groupConcurrency, rate, paused, ceilings }
      await to.configureType(type, { declared: true, ...limits, retention: retention.set })
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
  const ids: Ids = new Map()
  const left = new Set<string>()
  let moved = 0
  // What was moved is not waiting any more: the list begins anew until it is empty.
  for (let more = true; more; ) {
    more = false
    // One that is canceled takes along what waits for it: where there is such, all are there before the first one goes.
    const isFlow = (await from.stats()).dependent > 0
    const arrived: string[][] = []
    for await (const tasks of pages(from, { status: 'pending', limit: BATCH })) {
      const here = await bring(tasks, from, to, isFlow ? ids : new Map(), left, clock(), tell)
      if (isFlow) arrived.push(here)
      else await from.cancel({ ids: here })
      moved += here.length
      more ||= here.length > 0
      tell({ moved })
    }
    for (const here of arrived.reverse()) await from.cancel({ ids: here.reverse() })
  }
}

/** The ids that tasks have there, by those they have here. */
type Ids = Map<string, string>

/** Has tasks accepted there, but for those that are `left`; answers which those are. */
async function bring(
  tasks: readonly Task[],
  from: Engine,
  to: Engine,
  ids: Ids,
  left: Set<string>,
  now: number,
  tell: (progress: Progress) => void,
): Promise<string[]> {
  const waiting = tasks.map((task) => ({ task, spec: specOfTask(task, now) }))
  const isKept = isRestorable(to) ? (await to.restore(waiting)).map((restored) => restored !== 'foreign') : []
  tasks.forEach(({ id }, index) => {
    if (isKept[index]) ids.set(id, id)
  })
  // One by one where they wait for each other: each needs the id that another one has there.
  const others = waiting.filter((_, index) => !isKept[index])
  const isFlow = others.some(({ task }) => task.after.length > 0)
  for (const some of isFlow ? others.map((one) => [one]) : [others]) {
    const specs: Remembered[] = []
    for (const one of some) {
      const after = await namedThere(one.task, from, ids, tell)
      if (after !== null) specs.push({ task: one.task, spec: { ...one.spec, after } })
      else if (!left.has(one.task.id)) {
        left.add(one.task.id)
        tell({ left: one.task.id })
      }
    }
    for (const renamed of await accept(specs, to)) {
      ids.set(renamed.from, renamed.to)
      tell({ renamed })
    }
  }
  return tasks.flatMap(({ id }) => (left.has(id) ? [] : [id]))
}

/**
 * What a task waits for, by the ids there. What has ended cannot be named there: it counts as ended, and its result
 * does not come along. Null where it would wait in vain: one of them stays here, or would have to be retried first.
 */
async function namedThere(task: Task, from: Engine, ids: Ids, tell: (progress: Progress) => void) {
  const after = task.after.flatMap((id) => ids.get(id) ?? [])
  if (after.length === task.after.length) return after
  const ended = await from.get(task.after.filter((id) => !ids.has(id)))
  const counts = ({ status }: Task) => isFinal(status) && effectOf(status, task.onFailure) === 'counts'
  if (ended.some((other) => other && !counts(other))) return null
  tell({ withoutResults: task.id })
  return after
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
