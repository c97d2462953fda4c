import { setTimeout as sleep } from 'node:timers/promises'
import type { Remembered } from '../store/state.ts'
import { mayHaveAttempts } from '../task/attempt.ts'
import { effectOf } from '../task/flow.ts'
import { pagesOf } from '../task/pages.ts'
import { FINAL_STATUSES, isFinal } from '../task/status.ts'
import { specOfTask, type Task } from '../task/task.ts'
import { isOfGroup } from '../task/uses.ts'
import type { ListQuery, Queue } from './queue.ts'

const BATCH = 500
const CHECK_MS = 200

/** Progress reports of a migration. */
export interface Progress {
  /** Named limits, and limits of single groups, that exist in the target. */
  limits?: number
  /** Types that exist in the target and start no more tasks in the source. */
  types?: number
  /** Schedules that exist in the target and create no more tasks in the source. */
  schedules?: number
  /** Tasks that still run in the source: the migration waits for them. */
  running?: number
  /** Tasks moved to the target since the start. */
  moved?: number
  /** Finished tasks that were copied, since the start. */
  copied?: number
  /** Finished tasks that were not copied, because the target cannot keep their ids, since the start. */
  notCopied?: number
  /** The new id of a task in the target, if it could not keep its own. */
  renamed?: { from: string; to: string }
  /** A task with predecessors whose results cannot be copied: it has no predecessors in the target. */
  withoutResults?: string
  /** A task that stays in the source: it waits for the retry of a predecessor that has ended. */
  left?: string
}

/**
 * Moves all unfinished tasks from one store to another, and copies the finished ones whose ids the target can keep:
 * first limits, types and schedules, then finished tasks, then waiting ones with their ids and idempotency keys. A
 * type is paused in the source before its tasks move, and the migration waits for running tasks. A task is accepted in
 * the target before it is canceled in the source, and only once, so an interrupted migration can be started again and
 * continues. Starts before the migration do not count in the rates of the target.
 */
export async function migrate(from: Queue, to: Queue, clock: () => number, tell: (progress: Progress) => void) {
  tell({ limits: await copyLimits(from, to, clock()) })
  tell({ types: await moveTypes(from, to) })
  tell({ schedules: await moveSchedules(from, to) })
  await untilNothingRuns(from, tell)
  await copyFinished(from, to, clock, tell)
  await moveWaiting(from, to, clock, tell)
}

/** A limit that exists in the target has its own settings. */
async function copyLimits(from: Queue, to: Queue, now: number): Promise<number> {
  const there = new Set((await to.limits()).map(({ name }) => name))
  const limits = await from.limits()
  for (const { name, max, rate, paused, heldUntil } of limits) {
    if (there.has(name)) continue
    if (isOfGroup(name)) await to.configureLimit(name, { max })
    else await to.configureLimit(name, { max, rate, paused, holdMs: Math.max((heldUntil ?? 0) - now, 0) })
  }
  return limits.length
}

async function moveTypes(from: Queue, to: Queue): Promise<number> {
  const there = new Set((await to.types()).map(({ type }) => type))
  const types = await from.types()
  for (const { type, maxConcurrency, groupConcurrency, groupTurns, rate, paused, ceilings, retention } of types) {
    // A type that exists in the target has its own settings, perhaps from an interrupted run that had already paused it
    // in the source.
    if (!there.has(type)) {
      const limits = { maxConcurrency, groupConcurrency, groupTurns, rate, paused, ceilings }
      await to.configureType(type, { declared: true, ...limits, retention: retention.set })
    }
    await from.configureType(type, { paused: true })
  }
  return types.length
}

/**
 * A schedule that exists in the target has its own settings. Its tick between the two steps creates no second task: the
 * idempotency key of its task moves as well.
 */
async function moveSchedules(from: Queue, to: Queue): Promise<number> {
  const schedules = await from.schedules()
  for (const schedule of schedules) {
    await to.schedules({ keep: schedule })
    await from.schedules({ alter: schedule.id, to: { paused: true } })
  }
  return schedules.length
}

async function untilNothingRuns(from: Queue, tell: (progress: Progress) => void): Promise<void> {
  let reported = 0
  for (;;) {
    // The leases of lost workers expire by themselves.
    while ((await from.sweep(BATCH)).more);
    const running = (await from.types()).reduce((sum, { processing }) => sum + processing, 0)
    if (running !== reported) tell({ running })
    reported = running
    if (running === 0) return
    await sleep(CHECK_MS)
  }
}

async function copyFinished(from: Queue, to: Queue, clock: () => number, tell: (progress: Progress) => void) {
  if (!to.restore) {
    const { counts } = await from.stats()
    const notCopied = FINAL_STATUSES.reduce((sum, status) => sum + counts[status], 0)
    if (notCopied > 0) tell({ copied: 0, notCopied })
    return
  }
  let [copied, notCopied] = [0, 0]
  for (const status of FINAL_STATUSES) {
    for await (const tasks of pages(from, { status, limit: BATCH })) {
      const restored = await to.restore((await remembered(from, tasks, clock())).reverse())
      copied += restored.filter((one) => one === 'restored').length
      notCopied += restored.filter((one) => one === 'foreign').length
      tell({ copied, notCopied })
    }
  }
}

async function moveWaiting(from: Queue, to: Queue, clock: () => number, tell: (progress: Progress) => void) {
  const ids: Ids = new Map()
  const left = new Set<string>()
  let moved = 0
  // Moved tasks are no longer waiting, so the list starts again from the beginning until it is empty.
  for (let more = true; more; ) {
    more = false
    // Canceling a task also cancels its successors: with flows, all tasks are in the target before the first is
    // canceled.
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

/** Tasks with the specs and the attempts that the target stores. */
async function remembered(from: Queue, tasks: readonly Task[], now: number): Promise<Remembered[]> {
  const all: Remembered[] = []
  for (const task of tasks) {
    const kept = mayHaveAttempts(task) ? await from.attempts(task.id) : null
    all.push({ task, spec: specOfTask(task, now), ...(kept && { kept }) })
  }
  return all
}

/** The ids of tasks in the target, by their ids in the source. */
type Ids = Map<string, string>

/** Makes the target accept tasks, except those that are `left`; returns the ids of those. */
async function bring(
  tasks: readonly Task[],
  from: Queue,
  to: Queue,
  ids: Ids,
  left: Set<string>,
  now: number,
  tell: (progress: Progress) => void,
): Promise<string[]> {
  const waiting = await remembered(from, tasks, now)
  const isKept = to.restore ? (await to.restore(waiting)).map((restored) => restored !== 'foreign') : []
  tasks.forEach(({ id }, index) => {
    if (isKept[index]) ids.set(id, id)
  })
  // One by one where they wait for each other: each needs the id of another task in the target.
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
 * The predecessors of a task by their ids in the target. A finished one cannot be named there: it counts as ended, and
 * its result is not copied. Null where the task would wait in vain: a predecessor stays in the source, or must be
 * retried first.
 */
async function namedThere(task: Task, from: Queue, ids: Ids, tell: (progress: Progress) => void) {
  const after = task.after.flatMap((id) => ids.get(id) ?? [])
  if (after.length === task.after.length) return after
  const ended = await from.get(task.after.filter((id) => !ids.has(id)))
  const counts = ({ status }: Task) => isFinal(status) && effectOf(status, task.onFailure) === 'counts'
  if (ended.some((other) => other && !counts(other))) return null
  tell({ withoutResults: task.id })
  return after
}

/** Accepts tasks under new ids, each with an idempotency key, so that a repetition returns the same task. */
async function accept(tasks: readonly Remembered[], to: Queue): Promise<{ from: string; to: string }[]> {
  if (tasks.length === 0) return []
  const specs = tasks.map(({ task, spec }) => ({
    ...spec,
    idempotencyKey: spec.idempotencyKey ?? `xqueue:migrated:${task.id}`,
  }))
  const submitted = await to.submit(specs)
  return tasks.map(({ task }, index) => ({ from: task.id, to: submitted[index]!.task.id }))
}

async function* pages(from: Queue, query: ListQuery): AsyncGenerator<Task[]> {
  for await (const { tasks } of pagesOf((at) => from.list({ ...query, ...at }))) if (tasks.length > 0) yield tasks
}
