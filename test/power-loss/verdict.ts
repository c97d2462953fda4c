import type { Queue } from '../../src/queue/queue.ts'
import type { TaskEvent } from '../../src/task/event.ts'
import { pagesOf } from '../../src/task/pages.ts'
import { isFinal, type Status } from '../../src/task/status.ts'
import type { Task } from '../../src/task/task.ts'
import { allEvents } from '../faults/history.ts'
import type { Promises } from './promises.ts'

const PAGE = 1_000

/** One change, as far as it is the same in each copy of the queue. */
export type Step = string

/** The history of a queue, to compare that of a copy with. */
export async function historyOf(queue: Queue): Promise<Step[]> {
  return (await allEvents(queue)).map(stepOf)
}

/**
 * What is wrong with a queue that was opened after a loss of power: promises that are broken, a history that is not the
 * first part of the whole one, or tasks that are not as their history says.
 */
export async function judge(queue: Queue, promises: Promises, whole: readonly Step[]): Promise<string[]> {
  const events = await allEvents(queue)
  const tasks = new Map((await allTasks(queue)).map((task) => [task.id, task]))
  return [
    ...notAPrefix(events, whole),
    ...unlikeTheirEvents(tasks, events),
    ...(await miscounted(queue, tasks)),
    ...broken(promises, tasks),
    ...(await brokenLimit(queue, promises)),
  ]
}

function stepOf({ taskId, kind, status, attempts, at }: TaskEvent): Step {
  return `${taskId} ${kind} ${status} ${attempts} ${at}`
}

function notAPrefix(events: readonly TaskEvent[], whole: readonly Step[]): string[] {
  const at = events.findIndex((event, index) => stepOf(event) !== whole[index])
  return at === -1 ? [] : [`event ${at} of ${events.length} is "${stepOf(events[at]!)}", not "${whole[at]}"`]
}

function unlikeTheirEvents(tasks: ReadonlyMap<string, Task>, events: readonly TaskEvent[]): string[] {
  const last = new Map<string, Status>()
  for (const { taskId, status, kind } of events) if (kind === 'status') last.set(taskId, status)
  const strangers = [...tasks.keys()].filter((id) => !last.has(id)).map((id) => `task ${id} has no event`)
  const others = [...last].flatMap(([id, status]) => {
    const task = tasks.get(id)
    if (!task) return [`task ${id} has events and is not listed`]
    return task.status === status ? [] : [`task ${id} is ${task.status}, and ${status} in its last event`]
  })
  return [...strangers, ...others]
}

async function miscounted(queue: Queue, tasks: ReadonlyMap<string, Task>): Promise<string[]> {
  const { counts } = await queue.stats()
  return Object.entries(counts).flatMap(([status, count]) => {
    const listed = [...tasks.values()].filter((task) => task.status === status).length
    return listed === count ? [] : [`${count} tasks are counted as ${status}, and ${listed} are listed`]
  })
}

function broken({ accepted, shown }: Promises, tasks: ReadonlyMap<string, Task>): string[] {
  const lost = [...accepted].flatMap(([id, { n, bytes }]) => {
    const { payload } = (tasks.get(id) ?? { payload: null }) as { payload: { n: number; text: string } | null }
    if (payload === null) return [`task ${id} was accepted and is lost`]
    return payload.n === n && payload.text.length === bytes ? [] : [`task ${id} has another payload`]
  })
  const undone = [...shown].flatMap(([id, status]) => {
    const task = tasks.get(id)
    if (!task) return [`task ${id} was shown as ${status} and is lost`]
    // A failed attempt may have made it wait again.
    const isLater = isFinal(status) ? task.status === status : task.deliveries > 0 || isFinal(task.status)
    return status === 'pending' || isLater ? [] : [`task ${id} was shown as ${status} and is ${task.status}`]
  })
  return [...lost, ...undone]
}

async function brokenLimit(queue: Queue, { limits }: Promises): Promise<string[]> {
  const limit = (await queue.types({ names: ['remote'] }))[0]?.maxConcurrency ?? null
  return limits.has(limit) ? [] : [`the limit is ${limit}, not ${[...limits].join(' or ')}`]
}

async function allTasks(queue: Queue): Promise<Task[]> {
  const all: Task[] = []
  for await (const { tasks } of pagesOf((at) => queue.list({ limit: PAGE, ...at }))) all.push(...tasks)
  return all
}
