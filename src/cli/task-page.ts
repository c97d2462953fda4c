import { foldedStack } from '../task/stack.ts'
import { isFinal, type Status } from '../task/status.ts'
import type { TaskJson } from '../task/task-json.ts'
import { type Attempts, attemptLines } from './attempts.ts'
import { type Holder, holderTable } from './limit-text.ts'
import { type Log, lastLines } from './logs.ts'
import {
  columns,
  dimmed,
  durationText,
  facts,
  paint,
  plain,
  plainLines,
  type Styled,
  statusCell,
  table,
  timeBoth,
  timeText,
} from './terminal.ts'

/** How the CLI shows tasks to people. */

interface LimitInTheWay {
  name: string
  reason: 'paused' | 'held' | 'limit_reached' | 'rate_limited'
  needs: number
  max: number | null
  in_use: number
  until: string | null
  holders: Holder[]
}

/** The answer of `GET /tasks/:id/explain`. */
export interface Explanation {
  reason: string
  max_concurrency: number | null
  holders: Holder[]
  limits: LimitInTheWay[]
  ahead: number
  waits_for: string[]
  successors: string[]
  has_more_successors: boolean
  until: string | null
}

/** What is kept beside a task. */
export interface Beside {
  attempts: Attempts | null
  log: Log | null
}

/** A page about one task; without `explanation` once it has succeeded. */
export function taskPage(task: TaskJson, explanation: Explanation | null, beside: Beside | null): string {
  const sections = [facts({ ...factsOf(task), ...successorsOf(explanation) })]
  if (explanation && task.status === 'pending') sections.push(section('Why it waits', explanationText(explanation)))
  sections.push(section('Payload', jsonText(task.payload)))
  const { error } = task
  if (error !== null) sections.push(section('Error', paint('red', plainLines(foldedStack(error.trimEnd())))))
  const { attempts = null, log = null } = beside ?? {}
  const lines = attemptLines(attempts, { withErrors: true, shown: error })
  if (lines.length > 0) sections.push(section('Attempts', lines.join('\n')))
  if (log && log.lines.length > 0) sections.push(section('Log', lastLines(log, task.id)))
  if (task.status === 'success') sections.push(section('Result', jsonText(task.result)))
  return sections.join('\n\n')
}

function factsOf(task: TaskJson): Record<string, unknown> {
  const { deliveries, attempts, max_retry, tags } = task
  const shown: Record<string, unknown> = {
    id: task.id,
    type: task.type,
    status: task.timeout_reason
      ? `${statusCell('timeout')} (${task.timeout_reason})`
      : statusCell(task.status as Status),
    attempts: `${attempts} of ${max_retry + 1}${deliveries > attempts ? `, handed out ${timesText(deliveries)}` : ''}`,
    progress: progressText(task.progress),
    created: timeBoth(task.created_at),
    'runs at': Date.parse(task.run_at) > Date.parse(task.created_at) ? timeBoth(task.run_at) : null,
    started: task.started_at && timeBoth(task.started_at),
    ended: task.completed_at && timeBoth(task.completed_at),
    duration: runText(task),
    worker: task.worker_id,
    priority: task.priority,
    group: task.group,
    uses: Object.keys(task.uses ?? {}).length === 0 ? null : task.uses,
    batch: task.batch,
    tags: tagsText(tags),
    'idempotency key': task.idempotency_key,
    after: task.after.length === 0 ? null : `${task.after.join(', ')} (if one fails: ${task.on_failure})`,
  }
  return Object.fromEntries(Object.entries(shown).filter(([, fact]) => fact !== null && fact !== undefined))
}

const SUCCESSORS_SHOWN = 5

function successorsOf(explanation: Explanation | null): Record<string, string> {
  const { successors = [], has_more_successors: hasMore = false } = explanation ?? {}
  if (successors.length === 0) return {}
  const more = successors.length - SUCCESSORS_SHOWN
  const rest = more > 0 ? ` and ${more}${hasMore ? ' or more' : ''} others` : ''
  return { 'waited for by': `${successors.slice(0, SUCCESSORS_SHOWN).join(', ')}${rest}` }
}

/** How long the last attempt ran, or has been running. */
export function runText({ started_at, completed_at, status }: TaskJson, now = Date.now()): string | null {
  if (started_at === null || status === 'pending') return null
  const end = completed_at === null ? now : Date.parse(completed_at)
  return durationText(end - Date.parse(started_at))
}

export function progressText(progress: TaskJson['progress']): string | null {
  if (progress === null) return null
  if (typeof progress === 'number') return percentText(progress)
  const { percent, message } = progress as { percent?: unknown; message?: unknown }
  if (typeof percent !== 'number') return plain(JSON.stringify(progress))
  return typeof message === 'string' ? `${percentText(percent)} ${plain(message)}` : percentText(percent)
}

function percentText(percent: number): string {
  return `${Math.round(percent * 10) / 10} %`
}

function timesText(count: number): string {
  return count === 1 ? 'once' : `${count} times`
}

/** The reasons of docs/reference/http.md in words. */
export function explanationText(explanation: Explanation): string {
  const { reason, holders, limits, max_concurrency, ahead, waits_for, until } = explanation
  const named = limits.filter(({ name }) => !/^(type|group):/.test(name))
  if (named.length > 0) return limitsText(limits)
  const end = until === null ? '' : ` until ${timeBoth(until)}`
  const limit = tasksText(max_concurrency ?? 0)
  const texts: Record<string, string> = {
    finished: 'It has ended.',
    running: `A worker runs it${until === null ? '.' : `; its lease is valid${end}.`}`,
    waits_for_tasks: `It waits for ${tasksText(waits_for.length)}: ${waits_for.join(', ')}.`,
    delayed: `It is delayed${end}.`,
    paused: 'Its type is paused: `xqueue resume TYPE` starts its tasks again.',
    held: `Its type is held${end}: a handler or an operator has said that the service behind it refuses calls.`,
    no_worker: 'No live worker runs its type: start one with a handler for it.',
    limit_reached: `Its type may run ${limit} at once, and all permits are held.`,
    group_limit_reached: 'Its group is at its limit; all permits of the group are held.',
    rate_limited: `The rate of its type allows the next start${end.replace(' until', ' at')}.`,
    behind: `${tasksText(ahead)} of its type run before it.`,
    ready: 'It is ready: the next free worker starts it.',
  }
  const text = plain(texts[reason] ?? reason)
  if (holders.length === 0 || !reason.endsWith('limit_reached')) return text
  return `${text}\n${holderTable(holders)}`
}

const RAISE = ': it starts only after the limit is raised'

/** The limits in the way of a task, with the tasks that hold each. */
function limitsText(limits: readonly LimitInTheWay[]): string {
  const lines = limits.map(({ name, reason, needs, max, in_use, until, holders }) => {
    const end = until === null ? '' : ` until ${timeBoth(until)}`
    const isNever = max !== null && needs > max
    const texts: Record<LimitInTheWay['reason'], string> = {
      paused: 'is paused.',
      held: `is held${end}.`,
      limit_reached: `has ${in_use} of ${max} units in use; the task needs ${needs}${isNever ? RAISE : ''}.`,
      rate_limited:
        until === null
          ? `has a rate that never allows ${needs} units${RAISE}.`
          : `allows the next ${needs === 1 ? 'unit' : `${needs} units`}${end.replace(' until', ' at')}.`,
    }
    const held = holders.length === 0 ? '' : `\n${holderTable(holders)}`
    return plain(`The limit ${name} ${texts[reason]}`) + held
  })
  return lines.join('\n')
}

function tasksText(count: number): string {
  return `${count} ${count === 1 ? 'task' : 'tasks'}`
}

function tagsText(tags: TaskJson['tags']): string | null {
  const pairs = Object.entries(tags ?? {}).map(([key, value]) => `${key}:${value}`)
  return pairs.length === 0 ? null : pairs.join(', ')
}

type Column = [head: string, cell: (task: TaskJson, now: number) => string | number | Styled | null]

const COLUMNS: readonly Column[] = [
  ['ID', ({ id }) => id],
  ['TYPE', ({ type }) => type],
  ['STATUS', ({ status }) => statusCell(status as Status)],
  ['ATTEMPTS', ({ attempts }) => attempts],
  ['CREATED', ({ created_at }, now) => timeText(created_at, now)],
]
/** Columns that a list has only if a task has such a value. A narrow terminal keeps the error longest. */
const MORE_COLUMNS: readonly Column[] = [
  ['RUN', (task, now) => runText(task, now)],
  ['PROGRESS', ({ progress, status }) => (isFinal(status as Status) ? null : progressText(progress))],
  ['GROUP', ({ group }) => group],
  ['ERROR', ({ error }) => error && error.split('\n')[0]!],
]
/** What the columns of COLUMNS take: an id, a type, a status, attempts and an age. */
const COLUMNS_WIDTH = 36 + 12 + 14 + 10 + 10
const COLUMN_WIDTH_MIN = 10
/** Where errors leave no room for more: id, type and status. */
const COLUMNS_KEPT = 3

export function taskTable(tasks: readonly TaskJson[], now = Date.now()): string {
  const room = Math.max(0, Math.floor((columns() - COLUMNS_WIDTH) / COLUMN_WIDTH_MIN))
  const used = MORE_COLUMNS.filter(([, cell]) => tasks.some((task) => cell(task, now) !== null))
  const errors = used.filter(([head]) => head === 'ERROR')
  const others = used.slice(0, used.length - errors.length)
  const shown =
    room === 0 && errors.length > 0
      ? [...COLUMNS.slice(0, COLUMNS_KEPT), ...errors]
      : [...COLUMNS, ...others.slice(0, Math.max(0, room - errors.length)), ...errors]
  return table(
    shown.map(([head]) => head),
    tasks.map((task) => shown.map(([, cell]) => cell(task, now) ?? '')),
  )
}

function section(title: string, text: string): string {
  return `${dimmed(`${title}:`)}\n${text.replace(/^/gm, '  ')}`
}

/** JSON over several lines, without control characters. */
export function jsonText(value: unknown): string {
  return plainLines(JSON.stringify(value, null, 2))
}
