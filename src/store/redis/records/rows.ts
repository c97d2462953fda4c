import type { Predecessor } from '../../../task/flow.ts'
import type { Json } from '../../../task/json.ts'
import type { Running } from '../../../task/outcome.ts'
import type { Status, TimeoutReason } from '../../../task/status.ts'
import type { Progress, Task, TaskSpec } from '../../../task/task.ts'
import { groupOfLane, laneOf, NO_USES, type Uses } from '../../../task/uses.ts'
import { idOfName, idOfRef } from './ids.ts'

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

/** The extras that were read last: a claim reads the same ones for many tasks. */
let last: { text: string; extras: Extras } = { text: '', extras: parseExtras('') }

/** Reads extras from their stored form. */
function readExtras(text: string): Extras {
  if (text !== last.text) last = { text, extras: parseExtras(text) }
  return { ...last.extras, tags: { ...last.extras.tags } }
}

function parseExtras(text: string): Extras {
  const [tags, idempotencyKey, lane, batch = null, onFailure = 'cancel', names = NONE, uses = NO_USES] =
    text === '' ? [{}, null, null] : JSON.parse(`[${text}]`)
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
  if (where === 'running') {
    const ran = runOf(readLease(head))
    const task = taskOfParts(partition, ref, lane, NO_REQUEST, payload, extras, before)
    return { ...task, ...ran, updatedAt: ran.startedAt!, status: 'processing', progress: json(more) }
  }
  if (where !== 'finished') return taskOfParts(partition, ref, lane, head, payload, extras, before)
  const { status, reason, completedAt, ...ended } = readFinished(head)
  return {
    ...taskOfParts(partition, ref, lane, NO_REQUEST, payload, extras, before),
    ...runOf(ended),
    status: status as Status,
    timeoutReason: (reason || null) as TimeoutReason | null,
    updatedAt: completedAt,
    completedAt,
    progress: json(progress),
    result: json(result),
    error: json(error) as string | null,
  }
}

const NO_REQUEST = '0,0,0'

/** The fields of a task that its lease, and later its text, has. */
function runOf(run: Tail & { attempts: number }) {
  const { attempts, deliveries, queueTimeoutMs, processTimeoutMs, maxRetry, runAt, startedAt, workerId } = run
  return { attempts, deliveries, queueTimeoutMs, processTimeoutMs, maxRetry, runAt, startedAt, workerId }
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
    error: error === '' ? null : (JSON.parse(error) as string | null),
    ...readExtras(extras),
  }
}

/** Reads a head; the last fields are those of a task that was accepted and has not changed since. */
function readHead(head: string, createdAt: number) {
  const [queueTimeout, processTimeout, maxRetry, ref, ...rest] = head.split(',')
  const asked = {
    queueTimeoutMs: Number(queueTimeout),
    processTimeoutMs: Number(processTimeout),
    maxRetry: Number(maxRetry),
  }
  if (ref === undefined) {
    const at = { runAt: createdAt, startedAt: null, updatedAt: createdAt, workerId: null }
    return { ...asked, attempts: 0, lostLeases: 0, deliveries: 0, ...at }
  }
  const [attempts, lostLeases, deliveries, runAt, started, updated, ...worker] = rest
  return {
    ...asked,
    attempts: Number(attempts),
    lostLeases: Number(lostLeases),
    deliveries: Number(deliveries),
    runAt: Number(runAt),
    startedAt: numberOrNull(started!),
    updatedAt: Number(updated),
    workerId: json(worker.join(',')) as string | null,
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

function readTail([
  lost,
  deliveries,
  queueTimeout,
  processTimeout,
  maxRetry,
  runAt,
  started,
  ...worker
]: string[]): Tail {
  return {
    lostLeases: Number(lost),
    deliveries: Number(deliveries),
    queueTimeoutMs: Number(queueTimeout),
    processTimeoutMs: Number(processTimeout),
    maxRetry: Number(maxRetry),
    runAt: Number(runAt),
    startedAt: numberOrNull(started!),
    workerId: json(worker.join('|')) as string | null,
  }
}

function readLease(head: string) {
  const [fence, cancelAt, , deadline, , expires, , attempts, ...tail] = head.split('|')
  return {
    fence: fence!,
    cancelRequested: cancelAt !== '0',
    deadlineAt: numberOrNull(deadline!),
    expiresAt: Number(expires),
    attempts: Number(attempts),
    ...readTail(tail),
  }
}

function readFinished(head: string) {
  const [status, reason, completed, attempts, ...tail] = head.split('|')
  return { status, reason, completedAt: Number(completed), attempts: Number(attempts), ...readTail(tail) }
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
