import type { LimitSettings, Queue } from '../../src/queue/queue.ts'
import { SECRET_DIGITS } from '../../src/store/lease-secret.ts'
import type { TaskEvent } from '../../src/task/event.ts'
import { effectOf, type OnFailure } from '../../src/task/flow.ts'
import { canMove, type FinalStatus, isFinal, type Status } from '../../src/task/status.ts'
import { familyOf, type Uses } from '../../src/task/uses.ts'

/** The record of a process of a load: a line for each answer it received and each action. */
export type Line =
  /** A submission was acknowledged; `key` is its idempotency key, `after` what it waits for. */
  | {
      what: 'accepted'
      id: string
      at: number
      key?: string
      after?: readonly string[]
      onFailure?: OnFailure
      uses?: Uses
    }
  /** A submission failed. */
  | { what: 'refused'; code: string; afterMs: number; at: number }
  /** A handler began. */
  | { what: 'started'; lease: string; at: number }
  /** The engine answered an outcome. */
  | { what: 'settled'; lease: string; kind: string; accepted: boolean; status: Status | null; at: number }
  /** A turn that carried the outcome failed: whether it took effect is not known. */
  | { what: 'unsure'; lease: string; at: number }

export interface History {
  /** All events, in the order of the outbox. */
  events: readonly TaskEvent[]
  lines: readonly Line[]
  /** The most leases of a type at once; a type that is missing has no limit. */
  limits: Readonly<Record<string, number>>
  /** Writes that were acknowledged in one of these intervals may be lost, with their consequences. */
  mayLose?: readonly { from: number; to: number }[]
  /** The most starts of a type in any window of `perMs`. */
  rates?: Readonly<Record<string, { max: number; perMs: number }>>
  /** The most leases of a group of a type at once, and the groups of tasks. */
  groupLimits?: Readonly<Record<string, number>>
  groupOf?: ReadonlyMap<string, string>
  /** Named limits, and the units that tasks use of them. */
  namedLimits?: Readonly<Record<string, LimitSettings>>
  usesOf?: ReadonlyMap<string, Uses>
  /** How long an attempt of a type may run. */
  processTimeouts?: Readonly<Record<string, number>>
  /** The engine's clock was set back: times are not compared. */
  clockWentBack?: boolean
}

export interface Violation {
  rule:
    | 'lost'
    | 'not_finished'
    | 'finished_twice'
    | 'illegal_move'
    | 'over_limit'
    | 'over_group_limit'
    | 'over_rate'
    | 'over_named_limit'
    | 'over_named_rate'
    | 'leaked'
    | 'too_late'
    | 'too_early'
    | 'fence'
    | 'untold_lease'
    | 'order'
    | 'key'
  detail: string
}

/** Rules that every run must keep, whatever failed: checked against the records of the queue and the processes. */
export function check(history: History): Violation[] {
  return [
    ...replay(history),
    ...accepted(history),
    ...keys(history),
    ...outcomes(history),
    ...groups(history),
    ...named(history),
    ...times(history),
    ...flows(history),
  ]
}

/** The result of a handler: its lease, which names the task and its fence and is unique to one delivery. */
export const resultOf = (lease: string) => ({ lease })

/** Goes through the events as they happened: moves, order, and permits at every moment. */
function* replay({ events, limits, clockWentBack = false }: History): Generator<Violation> {
  const tasks = new Map<string, TaskEvent>()
  const running = new Map<string, Set<string>>()
  const positions = new Set<string>()
  for (const event of events) {
    const { id, kind, taskId, type, status, at } = event
    if (positions.has(id)) yield { rule: 'order', detail: `two events have the position ${id}` }
    positions.add(id)
    const before = tasks.get(taskId)
    if (before && before.at > at && !clockWentBack)
      yield { rule: 'order', detail: `${taskId}: ${status} is older than ${before.status}` }
    if (kind === 'progress') {
      if (before?.status !== 'processing')
        yield { rule: 'illegal_move', detail: `${taskId}: progress, but not running` }
      continue
    }
    if (!(before ? canMove(before.status, status) : status === 'pending')) {
      const rule = before && isFinal(before.status) && isFinal(status) ? 'finished_twice' : 'illegal_move'
      yield { rule, detail: `${taskId}: ${before?.status ?? 'nothing'} → ${status}` }
    }
    tasks.set(taskId, event)
    const leases = running.get(type) ?? new Set()
    running.set(type, leases)
    if (status !== 'processing') leases.delete(taskId)
    else leases.add(taskId)
    if (leases.size > (limits[type] ?? Number.POSITIVE_INFINITY)) {
      yield { rule: 'over_limit', detail: `${type}: ${leases.size} leases at once, ${id}` }
    }
  }
  for (const [taskId, { status }] of tasks) {
    if (!isFinal(status)) yield { rule: 'not_finished', detail: `${taskId} is left ${status}` }
  }
}

/** Acknowledged tasks exist. */
function* accepted({ events, lines, mayLose = [] }: History): Generator<Violation> {
  const there = new Set(events.map(({ taskId }) => taskId))
  for (const line of lines) {
    if (line.what !== 'accepted' || there.has(line.id)) continue
    if (mayLose.some(({ from, to }) => line.at >= from && line.at <= to)) continue
    yield { rule: 'lost', detail: `${line.id}, acknowledged at ${line.at}` }
  }
}

/** A key belongs to one task. */
function* keys({ lines }: History): Generator<Violation> {
  const ids = new Map<string, string>()
  for (const line of lines) {
    if (line.what !== 'accepted' || line.key === undefined) continue
    const before = ids.get(line.key)
    if (before !== undefined && before !== line.id) {
      yield { rule: 'key', detail: `${line.key} is the key of ${before} and of ${line.id}` }
    }
    ids.set(line.key, line.id)
  }
}

/** No group of a type has more leases at once than it may. */
function* groups({ events, groupLimits = {}, groupOf = new Map() }: History): Generator<Violation> {
  const running = new Map<string, Set<string>>()
  for (const { kind, taskId, type, status } of events) {
    const limit = groupLimits[type]
    const group = groupOf.get(taskId)
    if (kind === 'progress' || limit === undefined || group === undefined) continue
    const leases = running.get(`${type} ${group}`) ?? new Set()
    running.set(`${type} ${group}`, leases)
    if (status === 'processing') leases.add(taskId)
    else leases.delete(taskId)
    if (leases.size > limit)
      yield { rule: 'over_group_limit', detail: `${type}, ${group}: ${leases.size} leases at once` }
  }
}

/** Of no named limit are more units in use than its maximum, or started in a window than its rate. */
function* named({
  events,
  namedLimits = {},
  usesOf = new Map(),
  clockWentBack = false,
}: History): Generator<Violation> {
  const running = new Map<string, Map<string, number>>()
  const starts = new Map<string, { at: number; units: number }[]>()
  for (const { kind, taskId, status, at } of events) {
    if (kind !== 'status') continue
    for (const [name, units] of Object.entries(usesOf.get(taskId) ?? {})) {
      const { max = null, rate = null } = namedLimits[name] ?? namedLimits[familyOf(name) ?? ''] ?? {}
      const holders = running.get(name) ?? new Map<string, number>()
      running.set(name, holders)
      if (status === 'processing') holders.set(taskId, units)
      else holders.delete(taskId)
      const inUse = sumOf(holders.values())
      if (max !== null && inUse > max) yield { rule: 'over_named_limit', detail: `${name}: ${inUse} units in use` }
      if (status !== 'processing' || rate === null || clockWentBack) continue
      const window = [...(starts.get(name) ?? []).filter((start) => start.at + rate.perMs > at), { at, units }]
      starts.set(name, window)
      const started = sumOf(window.map((start) => start.units))
      if (started > rate.max) yield { rule: 'over_named_rate', detail: `${name}: ${started} units started by ${at}` }
    }
  }
}

function sumOf(numbers: Iterable<number>): number {
  return [...numbers].reduce((sum, number) => sum + number, 0)
}

/** No more starts in a window than the rate allows, and no success of an attempt that had run out of time. */
function* times({ events, rates = {}, processTimeouts = {}, clockWentBack = false }: History): Generator<Violation> {
  if (clockWentBack) return
  const starts = new Map<string, number[]>()
  const started = new Map<string, number>()
  for (const { kind, taskId, type, status, at } of events) {
    if (kind === 'status' && status === 'processing') {
      const ofType = starts.get(type) ?? []
      starts.set(type, ofType)
      ofType.push(at)
      started.set(taskId, at)
      const rate = rates[type]
      const first = rate && ofType.at(-1 - rate.max)
      if (first !== undefined && at - first < rate!.perMs) {
        yield { rule: 'over_rate', detail: `${type}: more than ${rate!.max} starts from ${first} to ${at}` }
      }
    }
    const limit = processTimeouts[type]
    if (status === 'success' && limit !== undefined && at - started.get(taskId)! >= limit) {
      yield { rule: 'too_late', detail: `${taskId} succeeded after ${at - started.get(taskId)!} ms, it had ${limit}` }
    }
  }
}

/** No task starts before those that it waits for have ended, each in a way that counts for it. */
function* flows({ events, lines, clockWentBack = false }: History): Generator<Violation> {
  if (clockWentBack) return
  const firstEnds = new Map<string, Map<FinalStatus, number>>()
  const startedAt = new Map<string, number>()
  for (const { kind, taskId, status, at } of events) {
    if (kind !== 'status') continue
    // A retried task may have ended before: its first end counts.
    if (status === 'processing' && !startedAt.has(taskId)) startedAt.set(taskId, at)
    if (!isFinal(status)) continue
    const ends = firstEnds.get(taskId) ?? new Map<FinalStatus, number>()
    firstEnds.set(taskId, ends)
    if (!ends.has(status)) ends.set(status, at)
  }
  for (const line of lines) {
    if (line.what !== 'accepted' || !line.after || !startedAt.has(line.id)) continue
    for (const id of line.after) {
      const counting = [...(firstEnds.get(id) ?? [])].filter(
        ([status]) => effectOf(status, line.onFailure ?? 'cancel') === 'counts',
      )
      if (startedAt.get(line.id)! >= Math.min(...counting.map(([, at]) => at))) continue
      yield { rule: 'too_early', detail: `${line.id} started before ${id}, which it waits for, had ended` }
    }
  }
}

/** Outcomes take effect exactly if the answer said so, and only those of the lease that is held. */
function* outcomes({ events, lines, mayLose = [] }: History): Generator<Violation> {
  const deliveries = new Map<string, number>()
  const took = new Set<string>()
  for (const { taskId, kind, status, result } of events) {
    const fence = deliveries.get(taskId) ?? 0
    if (kind === 'status' && status === 'processing') deliveries.set(taskId, fence + 1)
    if (status !== 'success') continue
    const { lease } = result as { lease: string }
    took.add(lease)
    if (taskOf(lease) !== taskId || handOutOf(lease) !== fence)
      yield { rule: 'fence', detail: `${lease} ended ${taskId} at hand-out ${fence}` }
  }
  const isLossy = (at: number) => mayLose.some(({ from, to }) => at >= from && at <= to)
  const unsure = new Set(lines.flatMap((line) => (line.what === 'unsure' ? [line.lease] : [])))
  for (const line of lines) {
    if (line.what === 'started') {
      const known = deliveries.get(taskOf(line.lease)) ?? 0
      if (handOutOf(line.lease) > known && !isLossy(line.at)) {
        yield { rule: 'untold_lease', detail: `a handler ran with ${line.lease}, there were ${known} hand-outs` }
      }
    }
    if (line.what !== 'settled' || line.kind !== 'success') continue
    if (line.accepted && !took.has(line.lease) && !isLossy(line.at)) {
      yield { rule: 'lost', detail: `the result of ${line.lease} was accepted and is not there` }
    }
    if (!line.accepted && took.has(line.lease) && !unsure.has(line.lease)) {
      yield { rule: 'fence', detail: `the result of ${line.lease} was refused and took effect` }
    }
  }
}

function taskOf(lease: string): string {
  return lease.slice(0, lease.indexOf('.'))
}

/** The number of the hand-out that a token is of; its secret follows. */
function handOutOf(lease: string): number {
  const fence = lease.slice(lease.indexOf('.') + 1)
  return Number(fence.length > SECRET_DIGITS ? fence.slice(0, -SECRET_DIGITS) : fence)
}

export async function allEvents(queue: Queue): Promise<TaskEvent[]> {
  const all: TaskEvent[] = []
  for (let after = ''; ; ) {
    const { events, last, gap } = await queue.events({ after, max: 10_000 })
    if (gap) throw new Error(`events after "${after}" are gone`)
    if (events.length === 0) return all
    all.push(...events)
    after = last
  }
}
