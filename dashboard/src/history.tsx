import { useEffect, useState } from 'preact/hooks'
import { get, type History } from './api.ts'
import { useLive } from './live.ts'
import { ChartPanel, ErrorLine } from './parts.tsx'
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

interface ChartsProps {
  range: Exclude<Range, 'live'>
  theme: string
  type?: string
}

/** Charts of what the server keeps, so that a reload or a restart loses nothing. */
export function HistoryCharts({ range, theme, type }: ChartsProps) {
  const [history, error] = useHistory(range, type)
  if (!history) return <ErrorLine error={error} />
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
