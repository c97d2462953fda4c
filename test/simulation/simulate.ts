import { createHash } from 'node:crypto'
import type { Queue } from '../../src/queue/queue.ts'
import type { TaskEvent } from '../../src/task/event.ts'
import { effectOf } from '../../src/task/flow.ts'
import { isFinal } from '../../src/task/status.ts'
import type { Uses } from '../../src/task/uses.ts'
import { check, type History, type Violation } from '../faults/history.ts'
import { interfere, submitAll } from './clients.ts'
import type { Figures } from './figures.ts'
import { drawPlan, type Plan } from './plan.ts'
import { SeededRandom } from './random.ts'
import { World } from './world.ts'

/** Far more than any deadline, delay or lease of a plan: without a change for so long, something hangs. */
const STUCK_MS = 60_000
const LOOK_EVERY_MS = 250

export interface Run {
  plan: Plan
  violations: Violation[]
  figures: Figures
  /** Of all that happened, in order: the same for the same seed. */
  trace: string
}

export interface Changes {
  /** A plan instead of the random one. */
  changed?: (plan: Plan) => Plan
  /** A store that breaks a rule, to show that the checker detects it. */
  broken?: (queue: Queue) => Queue
}

/** Runs one seed from beginning to end, and judges what happened. */
export async function simulate(seed: number, { changed = (plan) => plan, broken }: Changes = {}): Promise<Run> {
  const random = new SeededRandom(seed)
  const plan = changed(drawPlan(random))
  const world = await World.open(plan, random, broken)
  const { time, figures } = world
  try {
    const groupOf = new Map<string, string>()
    const usesOf = new Map<string, Uses>()
    let busy = true
    const clients = Array.from({ length: plan.clients }, (_, client) =>
      submitAll(world, random.fork(), client, groupOf, usesOf),
    )
    const done = Promise.all([...clients, interfere(world, random.fork())]).finally(() => {
      busy = false
    })
    done.catch(() => undefined) // It is waited for when nothing is left to do.
    await time.settle()
    while (busy && (await time.step())) figures.steps += 1
    await done
    world.calm()
    await end(world)
    const events = await allEvents(world)
    figures.seeds = 1
    figures.leases = events.filter(({ kind, status }) => kind === 'status' && status === 'processing').length
    const violations = [...check(storyOf(world, events, groupOf, usesOf)), ...(await leaks(world, usesOf))]
    return { plan, violations, figures, trace: traceOf(world, events) }
  } finally {
    await world.close()
  }
}

/** Goes on until everything has ended, or nothing changes any more. */
async function end({ time, queue, figures }: World): Promise<void> {
  let changedAt = time.elapsed()
  for (let position = ''; time.elapsed() < changedAt + STUCK_MS; ) {
    const { counts, dependent } = await queue.stats()
    if (counts.pending + counts.processing === 0) return
    const { last } = await queue.events({ after: null, max: 1 })
    if (last !== position) changedAt = time.elapsed()
    position = last
    if (dependent > 0 && dependent === counts.pending + counts.processing) await giveUpWaiting(queue)
    const next = time.elapsed() + LOOK_EVERY_MS
    while (time.elapsed() < next && (await time.step())) figures.steps += 1
  }
}

/** Successors that wait for a retry of a failed task would wait for ever: there are no more retries. */
async function giveUpWaiting(queue: Queue): Promise<void> {
  const { tasks } = await queue.list({ status: 'pending', limit: 1_000 })
  for (const { id, after, onFailure } of tasks) {
    const statuses = (await queue.get(after)).map((task) => task!.status)
    if (statuses.some((status) => isFinal(status) && effectOf(status, onFailure) !== 'counts'))
      await queue.cancel({ ids: [id] })
  }
}

/** When nothing runs any more, no unit of a named limit is in use, and none is waited for. */
async function leaks({ queue }: World, usesOf: ReadonlyMap<string, Uses>): Promise<Violation[]> {
  const names = [...new Set([...usesOf.values()].flatMap((uses) => Object.keys(uses)))]
  const limits = await queue.limits({ names, holders: true })
  return limits.flatMap(({ name, inUse, waiting }): Violation[] =>
    inUse === 0 && waiting === 0 ? [] : [{ rule: 'leaked', detail: `${name}: ${inUse} in use, ${waiting} waiting` }],
  )
}

function storyOf(
  { plan, lines }: World,
  events: TaskEvent[],
  groupOf: Map<string, string>,
  usesOf: Map<string, Uses>,
): History {
  const types = Object.entries(plan.types)
  const those = <T>(pick: (type: (typeof types)[number][1]) => T | null) =>
    Object.fromEntries(types.flatMap(([type, rules]) => (pick(rules) === null ? [] : [[type, pick(rules)!]])))
  return {
    events,
    lines,
    limits: those(({ maxConcurrency }) => maxConcurrency),
    groupLimits: those(({ groupConcurrency }) => groupConcurrency),
    rates: those(({ rate }) => rate),
    processTimeouts: those(({ processTimeoutMs }) => processTimeoutMs || null),
    groupOf,
    usesOf,
    namedLimits: plan.limits,
    clockWentBack: plan.faults.clockGoesBack && plan.faults.clockSteps > 0,
  }
}

async function allEvents({ queue }: World): Promise<TaskEvent[]> {
  const all: TaskEvent[] = []
  for (let after = ''; ; ) {
    const { events, last } = await queue.events({ after, max: 10_000 })
    if (events.length === 0) return all
    all.push(...events)
    after = last
  }
}

/** Ids are random, so each task is called by the order in which it came. */
function traceOf({ lines, time }: World, events: readonly TaskEvent[]): string {
  const names = new Map<string, number>()
  const nameOf = (id: string) => {
    if (!names.has(id)) names.set(id, names.size)
    return names.get(id)
  }
  const hash = createHash('sha1')
  for (const { taskId, kind, status, attempts, at } of events) {
    hash.update(`${nameOf(taskId)} ${kind} ${status} ${attempts} ${at}\n`)
  }
  for (const line of lines) {
    const id = 'id' in line ? line.id : 'lease' in line ? line.lease.slice(0, 36) : ''
    hash.update(`${line.what} ${nameOf(id)} ${line.at}\n`)
  }
  return hash.update(String(time.elapsed())).digest('hex')
}
