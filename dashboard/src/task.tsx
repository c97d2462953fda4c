import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { type Change, call, type Explanation, get, type LimitInTheWay, Refusal, type Task, TERMINAL } from './api.ts'
import { AttemptsPanel } from './attempts.tsx'
import { BatchLink, FlowPanel, TaskLinks } from './flow.tsx'
import { live, useLive } from './live.ts'
import { ErrorLine, JsonBlock, Panel, Progress, StatusBadge, useAction } from './parts.tsx'
import { may } from './session.ts'
import { duration, instant, moment, number, say, time, type Word } from './words.ts'

const HOLDERS_SHOWN_MAX = 10

/** The view of a task: its data, timeline, waiting reason and actions. */
export function TaskView({ id }: { id: string }) {
  const { rows, generation } = useLive()
  const [task, setTask] = useState<Task | null>(null)
  const [gone, setGone] = useState(false)
  const [run, error] = useAction()
  const heard = rows.get(id)
  const changes = useHistory(id)
  const read = async () => {
    try {
      setTask(await get<Task>(`/tasks/${id}`))
    } catch (refused) {
      if (!(refused instanceof Refusal)) throw refused
      setGone(true)
    }
  }
  // Each change is a reason to read the whole again; only progress is taken from the change itself.
  // Read for each of these.
  useEffect(() => run(read), [id, heard?.status, heard?.attempts, generation])
  if (gone) return <p class="empty">{say('gone')}</p>
  if (!task) return <ErrorLine error={error} />
  const open = !TERMINAL.includes(task.status)
  const progress = task.status === 'processing' ? (heard?.progress ?? task.progress) : task.progress
  return (
    <>
      <div class="title">
        <div class="what">
          <h1>
            {task.type} <StatusBadge status={task.status} />
          </h1>
          <code class="id">{task.id}</code>
        </div>
        <div class="actions">
          {open && may('submit') && (
            <button type="button" class="danger" onClick={() => run(() => call('DELETE', `/tasks/${id}`).then(read))}>
              {say('cancel')}
            </button>
          )}
          {!open && task.status !== 'success' && may('submit') && (
            <button type="button" onClick={() => run(() => call('POST', `/tasks/${id}/retry`).then(read))}>
              {say('retry')}
            </button>
          )}
          {may('submit') && (
            <a class="button" href={`#/submit?copy=${id}`}>
              {say('again')}
            </a>
          )}
        </div>
      </div>
      <ErrorLine error={error} />
      {open && <Why id={id} status={task.status} />}
      {(task.batch !== null || task.after.length > 0) && <FlowPanel batch={task.batch} task={task} />}
      {progress !== null && task.status !== 'success' && (
        <Panel title={say('progress')}>
          <Progress progress={progress} />
        </Panel>
      )}
      <div class="columns">
        <Panel title={say('timeline')}>
          <Timeline task={task} changes={changes} />
        </Panel>
        <Panel title={say('details')}>
          <Details task={task} />
        </Panel>
      </div>
      {task.error !== null && (
        <Panel title={say('error')} class="failed">
          <JsonBlock value={task.error} label={say('error')} />
        </Panel>
      )}
      <AttemptsPanel id={id} change={`${task.status} ${task.updated_at} ${generation}`} error={task.error} />
      {task.result !== null && (
        <Panel title={say('result')}>
          <JsonBlock value={task.result} label={say('result')} />
        </Panel>
      )}
      <Panel title={say('payload')}>
        <JsonBlock value={task.payload} label={say('payload')} />
      </Panel>
    </>
  )
}

/** All changes that the outbox still has, and each that follows: the event stream from its beginning. */
function useHistory(id: string): Change[] {
  const [changes, setChanges] = useState<Change[]>([])
  const known = useRef(new Map<string, Change>())
  useEffect(() => {
    const stop = new AbortController()
    void readStream(`api/v1/events?task_id=${id}`, stop.signal, (change) => {
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
        const after = before ? (Date.parse(at) - Date.parse(before.at)) / 1_000 : null
        return (
          <li key={`${index}${status}`} class={status}>
            <b>{say(status as Word)}</b>{' '}
            <time dateTime={at} title={moment(at)}>
              {instant(at)}
            </time>
            {after !== null && <span class="dim"> +{duration(Math.max(after, 0))}</span>}
            {note !== '' && <div class="dim">{note}</div>}
          </li>
        )
      })}
    </ol>
  )
}

function Details({ task }: { task: Task }) {
  const limit = (seconds: number) => (seconds === 0 ? say('noLimit') : duration(seconds))
  const between = (from: string, to: string) => duration(Math.max(0, (Date.parse(to) - Date.parse(from)) / 1_000))
  const { started_at: started, completed_at: completed, tags, after, batch } = task
  const tagged = Object.entries(tags).map(([key, value]) => (
    <a key={key} class="badge" href={`#/tasks?${new URLSearchParams({ tag: `${key}:${value}` })}`}>
      {key}:{value}
    </a>
  ))
  const rows: [Word, ComponentChildren][] = [
    ['priorityOf', String(task.priority)],
    ['group', task.group],
    ['uses', usesText(task.uses)],
    ['attempts', say('of', task.attempts, task.max_retry + 1)],
    ['deliveries', String(task.deliveries)],
    ['createdAt', moment(task.created_at)],
    ['runAt', task.run_at === task.created_at ? null : moment(task.run_at)],
    // The timeline shows tasks that were handed out again in more detail.
    ['waited', started && task.deliveries === 1 ? between(task.created_at, started) : null],
    ['ran', started && completed && between(started, completed)],
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

function usesText(uses: Task['uses'] = {}): string | null {
  const parts = Object.entries(uses).map(([limit, units]) => `${limit} ${number(units)}`)
  return parts.length === 0 ? null : parts.join(' · ')
}

function Why({ id, status }: { id: string; status: string }) {
  const { stats } = useLive()
  const [why, setWhy] = useState<Explanation | null>(null)
  // Asked again each second, for as long as it is open.
  useEffect(() => void get<Explanation>(`/tasks/${id}/explain`).then(setWhy, () => undefined), [id, status, stats])
  if (!why || why.reason === 'finished') return null
  return (
    <Panel title={say('why')}>
      {!isNamed(why) && <p>{sentence(why, id)}</p>}
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
        <li key={name}>
          <a href="#/limits">{name}</a>
          <span>
            {say(`limit_${reason}`, reason === 'limit_reached' ? say('of', number(in_use), number(max ?? 0)) : '')}
          </span>
          <span class="dim">
            {say('needs', number(needs))}
            {until && ` · ${moment(until)}`}
          </span>
          {holders.slice(0, HOLDERS_SHOWN_MAX).map(({ task_id }) => (
            <a key={task_id} href={`#/tasks/${task_id}`}>
              {task_id}
            </a>
          ))}
        </li>
      ))}
    </ul>
  )
}

function sentence({ reason, max_concurrency, ahead, waits_for, until, holders }: Explanation, id: string): string {
  if (reason === 'ready') return say('ready')
  if (reason === 'waits_for_tasks' && waits_for.length === 1) return say('reason_waits_for_one')
  const mine = holders.find(({ task_id }) => task_id === id)
  const filling: Record<string, string | number> = {
    delayed: until ? moment(until) : '',
    held: until ? moment(until) : '',
    limit_reached: max_concurrency ?? '',
    behind: ahead,
    waits_for_tasks: number(waits_for.length),
    running: mine?.worker_id ?? '',
  }
  return say(`reason_${reason}` as Word, filling[reason] ?? '')
}
