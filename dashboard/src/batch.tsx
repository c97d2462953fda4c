import { useRef, useState } from 'preact/hooks'
import { type BatchState, call, find, STATUSES } from './api.ts'
import { confirmedRun } from './feedback.tsx'
import { FlowPanel } from './flow.tsx'
import { useEachSecond } from './live.ts'
import { ErrorLine, Loading, Missing, Panel, useAction, usePageTitle } from './parts.tsx'
import { may } from './session.ts'
import { TaskList } from './task-list.tsx'
import { number, say } from './words.ts'

/** In the order in which they fill the bar: what has ended, then what runs. */
const BAR = ['success', 'failed', 'timeout', 'canceled', 'processing'] as const
/** Counting a large batch takes the engine a while: no more than this share of the time is spent on it. */
const COUNTING_SHARE = 0.1

/** The view of a batch: its progress, its flow, and its tasks. */
export function BatchView({ name }: { name: string }) {
  const [state, setState] = useState<BatchState | 'none' | null>(null)
  const [run, error] = useAction()
  usePageTitle(name)
  const restUntil = useRef(0)
  const path = `/batches/${encodeURIComponent(name)}`
  const read = async () => setState((await find<BatchState>(path)) ?? 'none')
  const refusal = useEachSecond(async () => {
    const began = performance.now()
    if (state === 'none' || began < restUntil.current) return
    await read()
    restUntil.current = performance.now() + (performance.now() - began) / COUNTING_SHARE
  }, [])
  if (state === 'none') {
    return <Missing says={say('noBatch')} id={name} />
  }
  if (!state) return <Loading error={refusal} />
  const cancelRest = () => {
    const open = state.pending + state.processing
    const question = {
      title: say('ask_cancel', number(open)),
      detail: say('effect_cancel'),
      action: say('cancelRest'),
      isDanger: true,
    }
    void confirmedRun(question, async () => {
      await call('DELETE', path)
      await read()
      return say('done_cancel', number(open))
    })
  }
  const unsuccessful = state.failed + state.canceled + state.timeout
  return (
    <>
      <div class="title">
        <div class="what">
          <h1>{say('batch')}</h1>
          <code class="id">{name}</code>
        </div>
        <div class="actions">
          {!state.done && may('submit') && (
            <button type="button" class="danger" onClick={cancelRest}>
              {say('cancelRest')}…
            </button>
          )}
          {unsuccessful > 0 && may('submit') && (
            <button type="button" onClick={() => run(() => call('POST', `${path}/retry`).then(read))}>
              {say('retryAll', number(unsuccessful))}
            </button>
          )}
        </div>
      </div>
      <ErrorLine error={error} />
      <Panel title={say('progress')} aside={<Ended state={state} />}>
        <Bar state={state} />
      </Panel>
      <ul class="totals" aria-label={say('totals')}>
        {STATUSES.map((status) => (
          <li key={status}>
            <a href={`#/tasks?${new URLSearchParams({ batch: name, status })}`} class={`total ${status}`}>
              {say(status)} <strong>{number(state[status])}</strong>
            </a>
          </li>
        ))}
      </ul>
      <FlowPanel batch={name} total={state.total - state.removed} />
      <h2>{say('tasks')}</h2>
      <TaskList search={{ batch: name }} />
    </>
  )
}

function Ended({ state: { total, pending, processing, removed, progress } }: { state: BatchState }) {
  return (
    <span class="terms">
      <span>{say('ended', number(total - pending - processing), number(total))}</span>
      {removed > 0 && <span>{say('removed', number(removed))}</span>}
      <b>{number(progress, 1)} %</b>
    </span>
  )
}

function Bar({ state }: { state: BatchState }) {
  return (
    <div
      class="bar"
      role="meter"
      aria-label={say('progress')}
      aria-valuenow={state.progress}
      aria-valuemin={0}
      aria-valuemax={100}
    >
      {state.removed > 0 && <div style={{ width: share(state.removed, state) }} />}
      {BAR.map((status) => (
        <div key={status} class={status} title={say(status)} style={{ width: share(state[status], state) }} />
      ))}
    </div>
  )
}

function share(count: number, { total }: BatchState): string {
  return `${(100 * count) / total}%`
}
