import { useEffect, useState } from 'preact/hooks'
import { isRunAgain } from '../../src/task/run-again.ts'
import { foldedStack } from '../../src/task/stack.ts'
import { type Attempt, type Attempts, get, type LogLine } from './api.ts'
import { useEachSecond } from './live.ts'
import { LogLines, useLog } from './log.tsx'
import { Panel } from './parts.tsx'
import { duration, instant, moment, say, type Word } from './words.ts'

/** Each run of a task with its error, as the store keeps them: older than the events of the timeline. */
export function AttemptsPanel({ id, change, error }: { id: string; change: string; error: string | null }) {
  const [{ attempts, left_out }, setAttempts] = useState<Attempts>({ attempts: [], left_out: 0 })
  useEffect(() => void get<Attempts>(`/tasks/${id}/attempts`).then(setAttempts, () => undefined), [id, change])
  const lines = useLog(id, change)
  if (attempts.length === 0) return null
  return (
    <Panel title={say('eachAttempt')}>
      <ol class="attempts">
        {left_out > 0 && <li class="dim">{say('attemptsLeftOut', left_out)}</li>}
        {attempts.map((attempt, at) => (
          <AttemptItem
            key={attempt.delivery}
            attempt={attempt}
            isAgain={isRunAgain(attempt, attempts[at - 1])}
            isShown={attempt.error === error}
            lines={lines.filter(({ delivery }) => isOf(delivery, attempts, at))}
          />
        ))}
      </ol>
    </Panel>
  )
}

/** Colors of the outcomes that are no status. */
const COLORS: Record<string, string> = { running: 'processing', lost: 'failed', released: 'canceled', held: 'pending' }

/** Several hand-outs may be one entry, that of the last of them; the first entry has older lines too. */
function isOf(delivery: number, attempts: Attempt[], at: number): boolean {
  const isLast = at === attempts.length - 1
  return (isLast || delivery <= attempts[at]!.delivery) && (at === 0 || delivery > attempts[at - 1]!.delivery)
}

interface Item {
  attempt: Attempt
  /** The first one after the task was run again. */
  isAgain: boolean
  isShown: boolean
  lines: LogLine[]
}

function AttemptItem({ attempt, isAgain, isShown, lines }: Item) {
  const { number, outcome, worker_id, started_at, ended_at, error } = attempt
  const color = COLORS[outcome]
  return (
    <li>
      <b>{say(isAgain ? 'attemptAgain' : 'attempt', number)}</b>{' '}
      <span class={`badge ${color ?? outcome}`}>{say((color ? `outcome_${outcome}` : outcome) as Word)}</span>{' '}
      <time dateTime={started_at} title={moment(started_at)}>
        {instant(started_at)}
      </time>
      <span class="dim">
        {' · '}
        <Ran from={started_at} to={ended_at} />
        {worker_id && ` · ${worker_id}`}
      </span>
      <LogLines lines={lines} />
      {error !== null && (
        // The panel of the task's error already shows the latest one.
        <details open={!isShown}>
          <summary>
            <span class="clamped">{error.split('\n')[0]!.slice(0, 200)}</span>
          </summary>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
          <pre role="group" tabIndex={0} aria-label={say('error')}>
            {foldedStack(error)}
          </pre>
        </details>
      )}
    </li>
  )
}

/** Counts on while it runs. */
function Ran({ from, to }: { from: string; to: string | null }) {
  const [now, setNow] = useState(Date.now())
  useEachSecond(async () => (to === null ? setNow(Date.now()) : null), [to])
  const end = to === null ? now : Date.parse(to)
  return <>{duration(Math.max(0, end - Date.parse(from)) / 1_000)}</>
}
