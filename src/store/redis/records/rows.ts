import type { Predecessor } from '../../../task/flow.ts'
import type { Json } from '../../../task/json.ts'
import type { Running } from '../../../task/outcome.ts'
import type { Status, TimeoutReason } from '../../../task/status.ts'
import type { Progress, Task, TaskSpec } from '../../../task/task.ts'
import { groupOfLane, laneOf, NO_USES, type Uses } from '../../../task/uses.ts'
import { idOfName, idOfRef } from './ids.ts'
import { NO_EXTRAS } from './keys.ts'

/** The texts that scripts store and return, see tasks.lua and leases.lua. */

/** A task as the steps return it: its place, lane and text, and its entry, progress or awaited predecessors. */
export interface Found {
  where: Where
  lane: string
  text: string
  more: string
}

/** The places of tasks in Redis, see shared.lua. */
type Where = 'waiting' | 'delayed' | 'dependent' | 'running' | 'finished'

export type FoundReply = [where: Where, lane: string, text: string, more: string]

export function readFound([where, lane, text, more]: FoundReply): Found {
  return { where, lane, text, more }
}

/** The request as the head of an entry: the other fields are added when the entry is in the stream again. */
export function headOf({
  queueTimeoutMs,
  processTimeoutMs,
  maxRetry,
}: Pick<TaskSpec, 'queueTimeoutMs' | 'processTimeoutMs' | 'maxRetry'>): string {
  return `${queueTimeoutMs},${processTimeoutMs},${maxRetry}`
}

/** Fields that few tasks have. */
type Extras = Pick<Task, 'tags' | 'idempotencyKey' | 'group' | 'uses' | 'after' | 'onFailure' | 'batch'>

/**
 * The extras of a task as JSON, '' when it has none: tags, idempotency key and group; its batch, if it has one, waits
 * for others or uses limits; then its failure policy for predecessors. submit.lua adds their names and the units of
 * limits. A task that uses limits has its lane in place of the group.
 */
export function extrasOf(task: Omit<Extras, 'after'> & { after: readonly unknown[] }): string {
  if (!hasExtras(task)) return ''
  const { tags, idempotencyKey, uses, after, onFailure, batch } = task
  const usesLimits = usesSome(uses)
  const group = usesLimits ? laneOf(task.group, uses) : task.group
  const hasPolicy = after.length > 0 || usesLimits
  const first = `${JSON.stringify(tags)},${JSON.stringify(idempotencyKey)},${JSON.stringify(group)}`
  if (batch === null && !hasPolicy) return first
  return `${first},${JSON.stringify(batch)}${hasPolicy ? `,"${onFailure}"` : ''}`
}

/** Whether the extras of a task are not ''. */
export function hasExtras(task: Omit<Extras, 'after'> & { after: readonly unknown[] }): boolean {
  const { tags, idempotencyKey, group, batch, after, uses } = task
  if (idempotencyKey !== null || group !== null || batch !== null || after.length > 0 || usesSome(uses)) return true
  for (const _ in tags) return true
  return false
}

/** The units of limits of a task as JSON, '' if it uses none. */
export function unitsOf(uses: Uses): string {
  return usesSome(uses) ? JSON.stringify(uses) : ''
}

function usesSome(uses: Uses): boolean {
  return uses !== NO_USES && Object.keys(uses).length > 0
}

/** Extras as `complete_extras` of tasks.lua writes them: with the names of predecessors, and the units of limits. */
export function completeExtras(extras: string, names: readonly string[], uses: Uses): string {
  const units = unitsOf(uses)
  if (units === '') return names.length === 0 ? extras : `${extras},${JSON.stringify(names)}`
  return `${extras},${JSON.stringify(names)},${units}${names.length === 0 ? '' : ',[]'}`
}

const NONE: readonly never[] = []

const NOTHING = parseExtras(NO_EXTRAS)
/** The extras that were read last: a claim reads the same ones for many tasks. */
let last = { text: NO_EXTRAS, extras: NOTHING }

/** Reads extras from their stored form. */
function readExtras(text: string): Extras {
  if (text === NO_EXTRAS || text === '') return NOTHING
  if (text !== last.text) last = { text, extras: parseExtras(text) }
  return last.extras
}

function parseExtras(text: string): Extras {
  const [tags, idempotencyKey, lane, batch = null, onFailure = 'cancel', names = NONE, uses = NO_USES] = JSON.parse(
    `[${text}]`,
  )
  const group = uses === NO_USES ? lane : groupOfLane(lane) || null
  const after = names.length === 0 ? NONE : names.map(idOfName)
  return { tags, idempotencyKey, group, uses: Object.freeze(uses), batch, onFailure, after }
}

/** The predecessors of a task, as `predecessors_of` of outcomes.lua returns them, in the order of its `after`. */
export function predecessorsOf(after: readonly string[], outcomes: string): readonly Predecessor[] {
  if (outcomes === '') return NONE
  return (JSON.parse(outcomes) as StoredOutcome[]).map((outcome, index) => predecessorOf(after[index]!, outcome))
}

/** Only status and type where the result was omitted. */
export type StoredOutcome = [Status | null, string] | [Status | null, string, Json, string | null]

export function predecessorOf(id: string, [status, type, result = null, error]: StoredOutcome): Predecessor {
  if (error === undefined) return { id, type, status, result: null, error: null, omitted: true }
  return { id, type, status, result, error }
}

export function taskOf(partition: number, ref: string, { where, lane, text, more }: Found): Task {
  const [head = '', extras = '', payload = '', before = '', error, progress, result] = text.split('\n')
  const waits = where !== 'running' && where !== 'finished'
  const task = taskOfParts(partition, ref, lane, waits ? head : NO_REQUEST, payload, extras, before)
  if (where === 'running') {
    const run = readLease(head)
    addRun(task, run)
    task.status = 'processing'
    task.updatedAt = run.startedAt!
    task.progress = json(more)
  } else if (where === 'finished') {
    const ended = readFinished(head)
    addRun(task, ended)
    task.status = ended.status as Status
    task.timeoutReason = (ended.reason || null) as TimeoutReason | null
    task.updatedAt = task.completedAt = ended.completedAt
    task.progress = json(progress)
    task.result = json(result)
    task.error = json(error) as string | null
  }
  return task
}

const NO_REQUEST = '0,0,0'

/** The fields of a task that its lease, and later its text, has. */
function addRun(task: Task, run: Tail & { attempts: number }): void {
  task.attempts = run.attempts
  task.deliveries = run.deliveries
  task.queueTimeoutMs = run.queueTimeoutMs
  task.processTimeoutMs = run.processTimeoutMs
  task.maxRetry = run.maxRetry
  task.runAt = run.runAt
  task.startedAt = run.startedAt
  task.workerId = run.workerId
}

/** Reads a waiting task from the parts of an entry. */
export function taskOfParts(
  partition: number,
  ref: string,
  lane: string,
  head: string,
  payload: string,
  extras: string,
  error: string,
): Task {
  const createdAt = Number(ref.slice(ref.indexOf('.') + 1, ref.lastIndexOf('-')))
  const { attempts, deliveries, queueTimeoutMs, processTimeoutMs, maxRetry, runAt, startedAt, updatedAt, workerId } =
    readHead(head, createdAt)
  const { tags, idempotencyKey, group, uses, after, onFailure, batch } = readExtras(extras)
  return {
    id: idOfRef(partition, ref),
    type: typeOfLane(lane),
    payload: JSON.parse(payload),
    priority: lane.charCodeAt(lane.length - 1) - 48,
    status: 'pending',
    attempts,
    deliveries,
    maxRetry,
    queueTimeoutMs,
    processTimeoutMs,
    timeoutReason: null,
    createdAt,
    runAt,
    startedAt,
    updatedAt,
    completedAt: null,
    workerId,
    progress: null,
    result: null,
    error: error === '' ? null : (json(error) as string | null),
    tags: { ...tags },
    idempotencyKey,
    group,
    uses,
    after,
    onFailure,
    batch,
  }
}

/** Reads a head; the last fields are those of a task that was accepted and has not changed since. */
function readHead(head: string, createdAt: number) {
  const values = head.split(',')
  const isNew = values.length === 3
  return {
    queueTimeoutMs: Number(values[0]),
    processTimeoutMs: Number(values[1]),
    maxRetry: Number(values[2]),
    attempts: isNew ? 0 : Number(values[4]),
    lostLeases: isNew ? 0 : Number(values[5]),
    deliveries: isNew ? 0 : Number(values[6]),
    runAt: isNew ? createdAt : Number(values[7]),
    startedAt: isNew ? null : numberOrNull(values[8]!),
    updatedAt: isNew ? createdAt : Number(values[9]),
    workerId: isNew ? null : workerIn(values, 10, ','),
  }
}

/** How often a waiting task has lost its lease. */
export function lostLeasesOf(head: string): number {
  return readHead(head, 0).lostLeases
}

/** The part of the first line that leases and finished tasks share. */
type Tail = Pick<
  Task,
  'deliveries' | 'queueTimeoutMs' | 'processTimeoutMs' | 'maxRetry' | 'runAt' | 'startedAt' | 'workerId'
> & { lostLeases: number }

/** Adds the values from `at` on. */
function withTail<T extends object>(fields: T, values: readonly string[], at: number): T & Tail {
  const tail = fields as T & Tail
  tail.lostLeases = Number(values[at])
  tail.deliveries = Number(values[at + 1])
  tail.queueTimeoutMs = Number(values[at + 2])
  tail.processTimeoutMs = Number(values[at + 3])
  tail.maxRetry = Number(values[at + 4])
  tail.runAt = Number(values[at + 5])
  tail.startedAt = numberOrNull(values[at + 6]!)
  tail.workerId = workerIn(values, at + 7, '|')
  return tail
}

/** The name of a worker, the last of some values, may contain what separates them. */
function workerIn(values: readonly string[], at: number, separator: string): string | null {
  return json(values.length === at + 1 ? values[at] : values.slice(at).join(separator)) as string | null
}

function readLease(head: string) {
  const values = head.split('|')
  const [fence, cancelAt, , deadline, , expires, , attempts] = values
  const lease = {
    fence: fence!,
    cancelRequested: cancelAt !== '0',
    deadlineAt: numberOrNull(deadline!),
    expiresAt: Number(expires),
    attempts: Number(attempts),
  }
  return withTail(lease, values, 8)
}

function readFinished(head: string) {
  const values = head.split('|')
  const [status, reason, completed, attempts] = values
  return withTail({ status, reason, completedAt: Number(completed), attempts: Number(attempts) }, values, 4)
}

/** The state of a lease that settling needs. */
export interface LeaseState extends Running {
  partition: number
  ref: string
  /** `<type>:<priority>` */
  lane: string
  fence: string
  startedAt: number
  expiresAt: number
  workerId: string
  /** The beginning of its record if it is the first delivery and the record has not changed since. */
  plain?: string
}

/** Reads a record of `leases`, or only its first line. */
export function leaseOf(record: string): Omit<LeaseState, 'partition' | 'ref' | 'lane'> {
  const [head = ''] = record.split('\n', 1)
  const { fence, cancelRequested, startedAt, expiresAt, deadlineAt, attempts, lostLeases, maxRetry, runAt, workerId } =
    readLease(head)
  return {
    ...{ fence, cancelRequested, startedAt: startedAt!, expiresAt, deadlineAt, attempts },
    ...{ lostLeases, maxRetry, runAt, workerId: workerId! },
  }
}

/** The extras of a record of `leases`. */
export function extrasOfLease(record: string): Extras {
  const [, extras = ''] = record.split('\n', 2)
  return readExtras(extras)
}

/** Milliseconds; '0' is none. */
function numberOrNull(text: string): number | null {
  return text === '0' ? null : Number(text)
}

function json(text: string | undefined): Json & Progress {
  return (text === undefined || text === 'null' ? null : JSON.parse(text)) as Json & Progress
}

export function typeOfLane(lane: string): string {
  return lane.slice(0, -2)
}
