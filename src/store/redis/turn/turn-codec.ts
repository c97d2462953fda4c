import { textOf } from '../../../task/json.ts'
import type { Settlement } from '../../../task/outcome.ts'
import type { Uses } from '../../../task/uses.ts'
import type { WorkerIdentity } from '../../store.ts'
import { idOfRef, placeOf } from '../records/ids.ts'
import type { LeaseState } from '../records/rows.ts'

/** The arguments and the answer of turn.lua. */

/** The part of a turn that concerns one partition, ready to be sent. */
export interface Part {
  worker: WorkerIdentity
  about: string
  /** Attempts that succeeded and failed since its description was written last. */
  worked: { well: number; failed: number }
  leaving: boolean
  leaseMs: number
  renewals: { ref: string; fence: string; progress: string }[]
  outcomes: OutcomePart[]
  /** ref, fence, maximum number of lines of the task, lines left out before these, number of lines, the lines. */
  logs: (string | number)[][]
  want: number
  /** Part of the tokens of the new leases. */
  secret: string
  waits: boolean
  /** The type that it was woken for, if another process is to be woken for the tasks that it leaves. */
  wokenFor: string
  types: readonly string[]
  /** The digest of its types if there are very many: they are listed only if the partition does not know the digest. */
  typeset: string
  /** Claims only tasks of these groups; empty: of all. */
  groups: readonly string[]
  /** It does not wait for a node that is unavailable, because other nodes are asked as well. */
  isBrief: boolean
}

/** An outcome's arguments, or the common form of many plain successes. */
export type OutcomePart = string[] | PlainSuccess

interface PlainSuccess {
  lane: string
  /** The common beginning of the records of leases that were claimed together. */
  prefix: string
  deadlineAt: number
  entry: string
  result: string
}

/** How a lease ends, and the units of limits that its task used in fact. */
export interface LeaseEnd extends Settlement {
  usage?: Uses
}

/** The result of an outcome: done, the lease was lost, its state has changed and needs a new decision, not storable. */
export const VERDICT = { done: 0, lost: 1, changed: 2, unstorable: 3 } as const
export type Verdict = (typeof VERDICT)[keyof typeof VERDICT]

/** The answer of a step with several turns, see turn.lua. */
export type TurnReply = ['types'] | [now: string, nextDueAt: string, parts: PartReply[]]
type PartReply = [
  renewals: ([expiresAt: string, cancelRequested: number] | null)[],
  outcomes: Verdict[],
  tasks: (string | number)[],
  cancels: string[],
]

export interface PartAnswer {
  renewals: ({ expiresAt: number; cancelRequested: boolean } | null)[]
  verdicts: Verdict[]
  /** For `readTasks`. */
  tasks: (string | number)[]
  /** `<ref>.<fence>` each. */
  cancels: string[]
  /** The server's time of the trip. */
  now: number
}

/** Null if the partition does not know the digest of a worker's types: they must be named. */
export function readTurn(reply: TurnReply): { now: string; nextDueAt: number | null; parts: PartAnswer[] } | null {
  if (reply[0] === 'types') return null
  const [now, nextDueAt, parts] = reply as Exclude<TurnReply, ['types']>
  return {
    now,
    nextDueAt: nextDueAt === '' ? null : Number(nextDueAt),
    parts: parts.map(([renewals, verdicts, tasks, cancels]) => ({
      renewals: renewals.map(readRenewal),
      verdicts,
      tasks,
      cancels,
      now: Number(now),
    })),
  }
}

function readRenewal(renewal: PartReply[0][number]): PartAnswer['renewals'][number] {
  if (renewal === null) return null
  const [expiresAt, cancelRequested] = renewal
  return { expiresAt: Number(expiresAt), cancelRequested: cancelRequested === 1 }
}

/** A lease, as read from its token. */
export interface Held {
  partition: number
  ref: string
  fence: string
}

export function emptyPart(worker: WorkerIdentity): Part {
  return {
    worker,
    about: '',
    worked: { well: 0, failed: 0 },
    leaving: false,
    leaseMs: 0,
    renewals: [],
    outcomes: [],
    logs: [],
    want: 0,
    secret: '',
    waits: false,
    wokenFor: '',
    types: [],
    typeset: '',
    groups: [],
    isBrief: false,
  }
}

export function addOutcome(part: Part, state: LeaseState, settlement: LeaseEnd, by: string, onlyWhenDue = false): void {
  const { plain: prefix, deadlineAt, workerId } = state
  if (prefix !== undefined && workerId === by && settlement.status === 'success' && !settlement.usage) {
    const result = textOf(settlement.result)
    const dot = state.ref.indexOf('.')
    const lane = state.ref.slice(0, dot)
    part.outcomes.push({ lane, prefix, deadlineAt: deadlineAt ?? 0, entry: state.ref.slice(dot + 1), result })
  } else part.outcomes.push(outcomeArgs(state, settlement, by, onlyWhenDue))
}

/** A part of a turn, and the positions of its outcomes and renewals in the turn. */
export interface PlacedPart extends Part {
  outcomeAt: number[]
  renewalAt: number[]
}

export function emptyPlacedPart(worker: WorkerIdentity): PlacedPart {
  return { ...emptyPart(worker), outcomeAt: [], renewalAt: [] }
}

/** @param named whether to list the types even if there are very many */
export function writePart(args: (string | number)[], part: Part, named: boolean): void {
  const { worker, about, worked, leaving, leaseMs, renewals, outcomes, logs, groups } = part
  const { want, secret, waits, wokenFor, typeset } = part
  const types = typeset !== '' && !named ? [] : part.types
  const { well, failed } = worked
  args.push(worker.id, JSON.stringify(worker.id), about, well, failed, leaving ? '1' : '', leaseMs, renewals.length)
  for (const { ref, fence, progress } of renewals) args.push(ref, fence, progress)
  writeOutcomes(args, outcomes)
  args.push(logs.length)
  for (const log of logs) args.push(...log)
  args.push(want, secret, waits ? '1' : '', wokenFor, typeset, types.length)
  for (const type of types) args.push(type)
  args.push(groups.length, ...groups)
}

/** Consecutive plain successes that were claimed together are written as one group. */
function writeOutcomes(args: (string | number)[], outcomes: readonly OutcomePart[]): void {
  const countAt = args.push(0) - 1
  let groups = 0
  let run: PlainSuccess | null = null
  let runAt = 0
  for (const outcome of outcomes) {
    if (Array.isArray(outcome)) {
      groups += 1
      run = null
      for (const text of outcome) args.push(text)
      continue
    }
    const { lane, prefix, deadlineAt, entry, result } = outcome
    if (run === null || run.prefix !== prefix || run.lane !== lane) {
      groups += 1
      run = outcome
      runAt = args.push('R', lane, prefix, deadlineAt, 0) - 1
    }
    args[runAt] = (args[runAt] as number) + 1
    args.push(entry, result)
  }
  args[countAt] = groups
}

/** @param by the worker that settles; a lease of its own costs less */
function outcomeArgs(state: LeaseState, settlement: LeaseEnd, by: string, onlyWhenDue: boolean): string[] {
  const { ref, fence, cancelRequested, workerId } = state
  const { status, attempts, lostLeases, runAt, timeoutReason, error, result, holdMs, attempt, heldLimit, usage } =
    settlement
  if (status === 'success' && workerId === by && !usage) return ['S', ref, fence, textOf(result)]
  return [
    'O',
    ref,
    fence,
    cancelRequested ? '1' : '0',
    onlyWhenDue ? '1' : '',
    status,
    String(attempts),
    String(lostLeases),
    String(runAt),
    timeoutReason ?? '',
    JSON.stringify(error),
    textOf(result),
    String(holdMs ?? ''),
    attempt ?? '',
    heldLimit ?? '',
    usage === undefined ? '' : JSON.stringify(usage),
  ]
}

/** Null for a text that is no token of this queue. */
export function heldOf(lease: string): Held | null {
  const dot = lease.lastIndexOf('.')
  const place = placeOf(lease.slice(0, dot))
  return place && { ...place, fence: lease.slice(dot + 1) }
}

/** The token of `<ref>.<fence>`. */
export function tokenOf(partition: number, cancel: string): string {
  const dot = cancel.lastIndexOf('.')
  return idOfRef(partition, cancel.slice(0, dot)) + cancel.slice(dot)
}

/** @param isPlain it is the first delivery */
type TakeTask = (
  ref: string,
  lane: string,
  head: string,
  payload: string,
  extras: string,
  error: string,
  predecessors: string,
  isPlain: boolean,
) => void

/** Reads the tasks of an answer, see turn.lua. */
export function readTasks(answer: readonly (string | number)[], take: TakeTask): void {
  for (let at = 0; at < answer.length; ) {
    const [lane, head] = [answer[at] as string, answer[at + 1] as string]
    if (head === '') {
      const [ref, ownHead, ...texts] = answer.slice(at + 2, at + 8) as [string, ...string[]]
      const [payload, extras, error, predecessors] = texts
      take(ref, lane, ownHead!, payload!, extras!, error!, predecessors!, false)
      at += 8
      continue
    }
    const count = answer[at + 2] as number
    const end = at + 5 + Math.abs(count) * 2
    const no = answer[at + 3] as string
    const common = answer[at + 4] as string
    for (at += 5; at < end; at += 2) {
      const [entry, text] = [answer[at], answer[at + 1] as string]
      const [extras, payload] = count < 0 ? (text.split('\n', 2) as [string, string]) : [common, text]
      take(`${no}.${entry}`, lane, head, payload, extras, '', '', true)
    }
  }
}
