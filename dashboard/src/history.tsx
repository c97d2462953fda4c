import { useEffect, useState } from 'preact/hooks'
import { get, type History } from './api.ts'
import { useLive } from './live.ts'
import { ChartPanel, ErrorLine } from './parts.tsx'
import { addressOf } from './task-search.ts'
import { say, shortDuration, type Word } from './words.ts'

/** The ranges of the kept history; `live` is what this page has received since it was opened. */
export const RANGES = ['live', '1h', '24h', '7d', '30d'] as const
export type Range = (typeof RANGES)[number]

const STORED_AS = 'xqueue-range'
const AGAIN_MS = 10_000

/** The selected range, which the browser remembers. */
export function useRange(): [Range, (range: Range) => void] {
  const stored = localStorage.getItem(STORED_AS) as Range
  const [range, setRange] = useState<Range>(RANGES.includes(stored) ? stored : '1h')
  const select = (selected: Range) => {
    localStorage.setItem(STORED_AS, selected)
    setRange(selected)
  }
  return [range, select]
}

/** The time that the figures of a range are of. */
export function rangeTitle(range: Range): string {
  return range === 'live' ? say('errorsTitle') : say('lastRange', say(`range_${range}`))
}

interface SwitchProps {
  range: Range
  select: (range: Range) => void
  /** A range that is not offered; the next one is shown for it. */
  without?: Range
}

export function RangeSwitch({ range: selected, select, without }: SwitchProps) {
  const offered = RANGES.filter((each) => each !== without)
  const range = offered.includes(selected) ? selected : offered[0]
  return (
    <div class="ranges" role="group" aria-label={say('range')}>
      {offered.map((each) => (
        <button
          type="button"
          class={each === range ? '' : 'plain'}
          key={each}
          aria-pressed={each === range}
          onClick={() => select(each)}
        >
          {each === 'live' ? say('range_live') : say(`range_${each}` as Word)}
        </button>
      ))}
    </div>
  )
}

/** What the server keeps of a range, of one type or all; read after a time, and again now and then. */
export function useHistory(range: Range, type?: string, afterMs = 0): [History | null, string] {
  const { generation } = useLive()
  const [history, setHistory] = useState<History | null>(null)
  const [error, setError] = useState('')
  useEffect(() => {
    let isGone = false
    if (range === 'live') return
    const search = new URLSearchParams({ range, ...(type === undefined ? {} : { type }) })
    const read = () =>
      get<History>(`/stats/history?${search}`).then(
        (read) => {
          if (isGone) return
          setError('')
          setHistory(read)
        },
        (refused: Error) => !isGone && setError(refused.message),
      )
    const first = setTimeout(read, afterMs)
    const timer = setInterval(read, AGAIN_MS)
    return () => {
      isGone = true
      clearTimeout(first)
      clearInterval(timer)
    }
  }, [range, type, generation])
  return [history?.range === range ? history : null, error]
}

/** Tasks that failed or timed out; null until the history is read. */
export function failuresOf(history: History | null): number | null {
  return history?.slots.reduce((sum, { failed, timeout }) => sum + failed + timeout, 0) ?? null
}

/** The errors of a range, of one type or all, as the list of tasks shows them. */
export function errorsAddress(range: Range, type = ''): string {
  return addressOf({ type, range: range === 'live' ? '15m' : range }, 'errors')
}

interface ChartsProps {
  /** As `useHistory` returns them. */
  read: readonly [History | null, error: string]
  theme: string
  type?: string
}

/** Charts of what the server keeps, so that a reload or a restart loses nothing. */
export function HistoryCharts({ read: [history, error], theme, type }: ChartsProps) {
  if (!history) return error === '' ? <ChartSpace count={type === undefined ? 2 : 4} /> : <ErrorLine error={error} />
  // The last slot is not over: its counts are not complete.
  const slots = history.slots.slice(0, -1)
  const at = slots.map((slot) => Date.parse(slot.at) / 1_000)
  const interval = shortDuration(history.slot)
  return (
    <>
      <ErrorLine error={error} />
      <div class="columns">
        <ChartPanel
          at={at}
          theme={theme}
          title={say('endedInEach', interval)}
          lines={[
            { label: say('success'), color: 'success', values: slots.map(({ success }) => success) },
            { label: say('errors'), color: 'failed', values: slots.map(({ errors }) => errors) },
          ]}
        />
        <ChartPanel
          at={at}
          theme={theme}
          title={say('begunInEach', interval)}
          lines={[
            { label: say('accepted'), color: 'pending', values: slots.map(({ submitted }) => submitted) },
            { label: say('started'), color: 'processing', values: slots.map(({ started }) => started) },
          ]}
        />
        {type !== undefined && (
          <ChartPanel
            at={at}
            theme={theme}
            title={say('waitP95')}
            format={shortDuration}
            lines={[{ label: say('newest'), color: 'pending', values: slots.map(({ wait }) => wait?.p95 ?? null) }]}
          />
        )}
        {type !== undefined && (
          <ChartPanel
            at={at}
            theme={theme}
            title={say('runP95')}
            format={shortDuration}
            lines={[{ label: say('newest'), color: 'processing', values: slots.map(({ run }) => run?.p95 ?? null) }]}
          />
        )}
      </div>
    </>
  )
}

/** In place of charts that are being read, so that nothing moves when they come. */
function ChartSpace({ count }: { count: number }) {
  return (
    <div class="columns" aria-hidden="true">
      {Array.from({ length: count }, (_, at) => (
        <div key={at} class="panel chart-space" />
      ))}
    </div>
  )
}
