import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { patternOf } from '../../src/task/error-pattern.ts'
import { foldedStack } from '../../src/task/stack.ts'
import {
  type Change,
  call,
  type Explanation,
  find,
  get,
  type LimitInTheWay,
  type Task,
  TERMINAL,
  urlOf,
} from './api.ts'
import { AttemptsPanel } from './attempts.tsx'
import { confirmedRun, toast } from './feedback.tsx'
import { BatchLink, FlowPanel, TaskLinks } from './flow.tsx'
import { age, CopyButton, shortId, TaskLink } from './ids.tsx'
import { JsonView } from './json-view.tsx'
import { forget, live, useEachSecond, useLive } from './live.ts'
import { ErrorLine, Loading, Missing, Panel, Progress, StatusBadge, useAction, usePageTitle } from './parts.tsx'
import { may } from './session.ts'
import { type Action, RETRYABLE } from './task-actions.tsx'
import { addressOf, typeAddress } from './task-search.ts'
import { duration, instant, moment, number, say, time, type Word } from './words.ts'

const HOLDERS_SHOWN_MAX = 10
const SUCCESSORS_SEARCHED = 1_000

/** The view of a task: its data, timeline, waiting reason and actions. */
export function TaskView({ id }: { id: string }) {
  const { rows, generation } = useLive()
  const [task, setTask] = useState<Task | null>(null)
  const [gone, setGone] = useState(false)
  const [run, error] = useAction()
  const heard = rows.get(id)
  const changes = useHistory(id)
  const read = async () => {
    const found = await find<Task>(`/tasks/${id}`)
    if (found) setTask(found)
    setGone(!found)
  }
  // What was refused may be answered later.
  useEachSecond(async () => !task && error !== '' && run(read), [])
  // Each change is a reason to read the whole again; only progress is taken from the change itself.
  // Read for each of these.
  useEffect(() => run(read), [id, heard?.status, heard?.attempts, generation])
  usePageTitle(task && `${task.type} ${shortId(id)} · ${say(task.status)}`)
  if (gone) {
    return <Missing says={say('gone')} id={id} />
  }
  if (!task) return <Loading error={error} />
  const progress = task.status === 'processing' ? (heard?.progress ?? task.progress) : task.progress
  return (
    <>
      <div class="title">
        <div class="what">
          <h1>
            <a href={typeAddress(task.type)}>{task.type}</a> <StatusBadge status={task.status} />
          </h1>
          <code class="id">{task.id}</code>
          <CopyButton text={task.id} label={say('copyId')} />
        </div>
        {may('submit') && <Actions task={task} read={read} />}
      </div>
      <ErrorLine error={error} />
      {task.status === 'pending' && <Why id={id} />}
      {(task.batch !== null || task.after.length > 0) && <FlowPanel batch={task.batch} task={task} />}
      {progress !== null && task.status !== 'success' && (
        <Panel title={say('progress')}>
          <Progress progress={progress} />
        </Panel>
      )}
      <div class="task-columns">
        <div>
          {task.error !== null && (
            <Panel title={say('error')} class="failed">
              <JsonView value={foldedStack(task.error)} label={say('error')} />
              <p class="alike">
                <a href={addressOf({ type: task.type, pattern: patternOf(task.error) })}>{say('alike')}</a>
              </p>
            </Panel>
          )}
          <AttemptsPanel id={id} change={`${task.status} ${task.updated_at} ${generation}`} error={task.error} />
          {task.result !== null && (
            <Panel title={say('result')}>
              <JsonView value={task.result} label={say('result')} />
            </Panel>
          )}
          <Panel title={say('payload')}>
            <JsonView value={task.payload} label={say('payload')} />
          </Panel>
        </div>
        <div>
          <Panel title={say('details')}>
            <Details task={task} />
          </Panel>
          <Panel title={say('timeline')}>
            <Timeline task={task} changes={changes} />
          </Panel>
        </div>
      </div>
    </>
  )
}

function Actions({ task: { id, status }, read }: { task: Task; read: () => Promise<void> }) {
  const open = !TERMINAL.includes(status)
  const ask = (action: Action, act: () => Promise<unknown>) => {
    const question = {
      title: say(`ask_one_${action}`),
      detail: say(`effect_${action}`),
      action: say(`action_${action}`),
      isDanger: true,
    }
    void confirmedRun(question, async () => {
      await act()
      return say(`done_one_${action}`)
    })
  }
  const retry = () =>
    call('POST', `/tasks/${id}/retry`).then(
      () => read(),
      (refused: Error) => toast(refused.message, true),
    )
  const purge = async () => {
    await call('POST', `/tasks/${id}/purge`)
    forget([id])
    location.hash = '#/tasks'
  }
  return (
    <div class="actions">
      {open && (
        <button
          type="button"
          class="danger"
          onClick={() => ask('cancel', () => call('DELETE', `/tasks/${id}`).then(read))}
        >
          {say('cancel')}…
        </button>
      )}
      {RETRYABLE.includes(status) && (
        <button type="button" onClick={() => void retry()}>
          {say('retry')}
        </button>
      )}
      <a class="button" href={`#/submit?copy=${id}`}>
        {say('again')}
      </a>
      {!open && (
        <button type="button" class="plain" onClick={() => ask('purge', purge)}>
          {say('action_purge')}…
        </button>
      )}
    </div>
  )
}

/** All changes that the outbox still has, and each that follows: the event stream from its beginning. */
function useHistory(id: string): Change[] {
  const [changes, setChanges] = useState<Change[]>([])
  const known = useRef(new Map<string, Change>())
  useEffect(() => {
    const stop = new AbortController()
    void readStream(urlOf(`api/v1/events?task_id=${id}`), stop.signal, (change) => {
      known.current.set(change.event_id!, change)
      setChanges([...known.current.values()])
    }).catch(() => undefined)
    return () => stop.abort()
  }, [id, live.generation])
  return changes
}

async function readStream(url: string, signal: AbortSignal, onChange: (change: Change) => void): Promise<void> {
  const answer = await fetch(url, { signal, headers: { 'Last-Event-ID': '' } })
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader()
  for (let text = ''; ; ) {
    const { value, done } = await reader.read()
    if (done) return
    const blocks = (text + value).split('\n\n')
    text = blocks.pop()!
    for (const block of blocks) {
      const data = /^data: (.*)$/m.exec(block)?.[1]
      if (data && /^event: status$/m.test(block)) onChange(JSON.parse(data))
    }
  }
}

function Timeline({ task, changes }: { task: Task; changes: Change[] }) {
  const first = changes[0]?.status === 'pending' ? [] : [{ status: 'created' as const, at: task.created_at, note: '' }]
  const told = changes.map(({ status, timestamp, attempts, worker_id, error }) => ({
    status,
    at: timestamp,
    note:
      status === 'processing'
        ? `${say('attempt', attempts + 1)} · ${worker_id ?? ''}`
        : (error?.split('\n')[0]?.slice(0, 200) ?? ''),
  }))
  const steps = [...first, ...told]
  if (changes.length === 0 && task.completed_at) steps.push({ status: task.status, at: task.completed_at, note: '' })
  return (
    <ol class="timeline">
      {steps.map(({ status, at, note }, index) => {
        const before = steps[index - 1]
        const after = before ? Math.max(0, Date.parse(at) - Date.parse(before.at)) / 1_000 : null
        return (
          <li key={`${index}${status}`} class={status}>
            <b>{say(status as Word)}</b>{' '}
            <time dateTime={at} title={moment(at)}>
              {instant(at)}
            </time>
            {after !== null && <span class="dim"> +{duration(Math.max(after, 0))}</span>}
            {note !== '' && (
              <div class="dim clamped" title={note}>
                {note}
              </div>
            )}
          </li>
        )
      })}
    </ol>
  )
}

function Details({ task }: { task: Task }) {
  const successors = useSuccessors(task)
  const limit = (seconds: number) => (seconds === 0 ? say('noLimit') : duration(seconds))
  const between = (from: string, to: string) => duration(Math.max(0, (Date.parse(to) - Date.parse(from)) / 1_000))
  const { started_at: started, completed_at: completed, tags, after, batch, group, status } = task
  const tagged = Object.entries(tags).map(([key, value]) => (
    <a key={key} class="badge" href={addressOf({ tag: `${key.replaceAll(':', '\\:')}:${value}` })}>
      {key}:{value}
    </a>
  ))
  const rows: [Word, ComponentChildren][] = [
    ['priorityOf', String(task.priority)],
    ['group', group !== null && <a href={addressOf({ type: task.type, group })}>{group}</a>],
    ['uses', usesText(task.uses)],
    ['attempts', say('of', task.attempts, task.max_retry + 1)],
    ['deliveries', String(task.deliveries)],
    [
      'createdAt',
      <span key="at">
        {moment(task.created_at)} <span class="dim nowrap">({say('ago', age(Date.parse(task.created_at)))})</span>
      </span>,
    ],
    ['runAt', task.run_at === task.created_at ? null : moment(task.run_at)],
    // The timeline shows tasks that were handed out again in more detail.
    ['waited', started && task.deliveries === 1 ? between(task.created_at, started) : null],
    [
      'ran',
      started && (completed ? between(started, completed) : status === 'processing' && <Ticking since={started} />),
    ],
    ['queueTimeout', limit(task.queue_timeout)],
    ['runTimeout', limit(task.process_timeout)],
    [
      'timeoutReason',
      task.timeout_reason && say(task.timeout_reason === 'queue_wait' ? 'whileWaiting' : 'whileRunning'),
    ],
    ['worker', task.worker_id],
    ['key', task.idempotency_key],
    ['batch', batch !== null && <BatchLink batch={batch} />],
    ['after', after.length > 0 && <TaskLinks ids={after} />],
    ['successors', successors.ids.length > 0 && <TaskLinks {...successors} />],
    ['onFailure', after.length > 0 && say(`on_failure_${task.on_failure}`)],
    ['tag', tagged.length > 0 && tagged],
  ]
  return (
    <dl class="facts">
      {rows.map(([name, value]) =>
        value === null || value === false ? null : (
          <div key={name} class="fact">
            <dt>{say(name)}</dt>
            <dd>{value}</dd>
          </div>
        ),
      )}
    </dl>
  )
}

/** The tasks that wait for it, or waited for it, as far as the store still knows them or they are in its batch. */
function useSuccessors({ id, batch, updated_at }: Task): Successors {
  const [successors, setSuccessors] = useState<Successors>({ ids: [], hasMore: false })
  useEffect(() => {
    void readSuccessors(id, batch).then(setSuccessors, () => undefined)
  }, [id, batch, updated_at])
  return successors
}

interface Successors {
  ids: readonly string[]
  hasMore: boolean
}

async function readSuccessors(id: string, batch: string | null): Promise<Successors> {
  const [explanation, inBatch] = await Promise.all([
    get<Explanation>(`/tasks/${id}/explain`),
    successorsInBatch(id, batch),
  ])
  const { successors, has_more_successors: hasMore } = explanation
  return { ids: [...new Set([...successors, ...inBatch])], hasMore }
}

/** The store forgets what waited for a task when the task has succeeded. */
async function successorsInBatch(id: string, batch: string | null): Promise<readonly string[]> {
  if (batch === null) return []
  const search = new URLSearchParams({ batch, limit: String(SUCCESSORS_SEARCHED) })
  const { tasks } = await get<{ tasks: Task[] }>(`/tasks?${search}`)
  return tasks.filter(({ after }) => after.includes(id)).map((task) => task.id)
}

/** Counts on each second. */
function Ticking({ since }: { since: string }) {
  const [now, setNow] = useState(Date.now())
  useEachSecond(async () => setNow(Date.now()), [])
  return <>{duration(Math.max(0, Math.floor((now - Date.parse(since)) / 1_000)))}</>
}

function usesText(uses: Task['uses'] = {}): string | null {
  const parts = Object.entries(uses).map(([limit, units]) => `${limit} ${number(units)}`)
  return parts.length === 0 ? null : parts.join(' · ')
}

function Why({ id }: { id: string }) {
  const { stats } = useLive()
  const [why, setWhy] = useState<Explanation | null>(null)
  // Asked again each second, for as long as it is open.
  useEffect(() => void get<Explanation>(`/tasks/${id}/explain`).then(setWhy, () => undefined), [id, stats])
  if (!why || why.reason === 'finished' || why.reason === 'running') return null
  return (
    <Panel title={say('why')} class="why">
      {!isNamed(why) && <p>{sentence(why)}</p>}
      {why.reason === 'waits_for_tasks' && <TaskLinks ids={why.waits_for} />}
      {isNamed(why) && <LimitsInTheWay limits={why.limits} />}
      {!isNamed(why) && why.reason === 'limit_reached' && (
        <ul class="runs">
          {why.holders.map(({ task_id, worker_id, since }) => (
            <li key={task_id}>
              <a href={`#/tasks/${task_id}`}>{task_id}</a>
              <span>{worker_id}</span>
              <span class="dim">{time(since)}</span>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  )
}

/** Whether a named limit is in the way; then each limit is listed. */
function isNamed({ limits }: Explanation): boolean {
  return limits.some(({ name }) => !/^(type|group):/.test(name))
}

function LimitsInTheWay({ limits }: { limits: readonly LimitInTheWay[] }) {
  return (
    <ul class="runs">
      {limits.map(({ name, reason, needs, max, in_use, until, holders }) => (
        <li key={name} class="in-the-way">
          <a href="#/limits">{name}</a>{' '}
          {say(`limit_${reason}`, reason === 'limit_reached' ? say('of', number(in_use), number(max ?? 0)) : '')}
          {until && ` ${say('until', moment(until))}`} <span class="dim">· {say('needs', number(needs))}</span>
          {holders.length > 0 && (
            <div class="badges">
              {holders.slice(0, HOLDERS_SHOWN_MAX).map(({ task_id }) => (
                <TaskLink key={task_id} id={task_id} />
              ))}
            </div>
          )}
        </li>
      ))}
    </ul>
  )
}

function sentence({ reason, max_concurrency, ahead, waits_for, until }: Explanation): string {
  if (reason === 'ready') return say('ready')
  if (reason === 'waits_for_tasks' && waits_for.length === 1) return say('reason_waits_for_one')
  const filling: Record<string, string | number> = {
    delayed: until ? moment(until) : '',
    held: until ? moment(until) : '',
    limit_reached: max_concurrency ?? '',
    behind: ahead,
    waits_for_tasks: number(waits_for.length),
  }
  return say(`reason_${reason}` as Word, filling[reason] ?? '')
}
