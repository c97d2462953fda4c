import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import uPlot from 'uplot'
import { type Percentiles, type Status, type Task, urlOf } from './api.ts'
import { live } from './live.ts'
import { duration, locale, number, say, shortDuration } from './words.ts'

/** Small things that several views show. Text only ever reaches the page as text. */

export function StatusBadge({ status }: { status: Status }) {
  return <span class={`badge ${status}`}>{say(status)}</span>
}

export function Meter({ value, max, label }: { value: number; max: number | null; label: string }) {
  const share = max === null ? 0 : Math.min(1, value / max)
  return (
    <div
      class={`meter ${share >= 1 ? 'full' : ''}`}
      role="meter"
      aria-label={label}
      aria-valuenow={value}
      aria-valuemin={0}
      aria-valuemax={max ?? value}
    >
      <div style={{ width: `${share * 100}%` }} />
    </div>
  )
}

interface ProgressProps {
  progress: Task['progress']
  /** Without the message and other values. */
  isShort?: boolean
}

/** A number from 0 to 100, or an object: `percent` is drawn, `message` is shown, other values follow as they are. */
export function Progress({ progress, isShort = false }: ProgressProps) {
  if (progress === null) return null
  const { percent = null, message = null, ...others } = typeof progress === 'number' ? { percent: progress } : progress
  const share = typeof percent === 'number' ? Math.min(100, Math.max(0, percent)) : null
  const text = typeof message === 'string' ? message : ''
  const rest = JSON.stringify(message === null || text !== '' ? others : { ...others, message })
  return (
    <span class="progress" title={isShort ? JSON.stringify(progress) : ''}>
      {share !== null && (
        <>
          <Meter value={share} max={100} label={say('progress')} /> {number(share)}%
        </>
      )}
      {(!isShort || share === null) && text !== '' && <span class="message">{text}</span>}
      {(!isShort || (share === null && text === '')) && rest !== '{}' && <span class="dim">{rest}</span>}
    </span>
  )
}

export function Times({ of }: { of: Percentiles | null }) {
  if (!of) return <span class="dim">–</span>
  return (
    <span class="nowrap" title={`${duration(of.p50)} · ${duration(of.p95)} · ${duration(of.p99)}`}>
      {shortly([of.p50, of.p95, of.p99])}
    </span>
  )
}

/** `91 · 128 · 256 ms`: a unit that all have is said once. */
function shortly(seconds: readonly number[]): string {
  const texts = seconds.map(shortDuration)
  const units = texts.map((text) => text.slice(text.lastIndexOf(' ')))
  const isOne = units.every((unit) => unit === units[0])
  return texts
    .map((text, index) => (isOne && index < texts.length - 1 ? text.slice(0, -units[0]!.length) : text))
    .join(' · ')
}

export const SPARKLINE_POINTS = 60

export function Sparkline({ values, label }: { values: readonly number[]; label: string }) {
  const max = Math.max(...values, 1e-9)
  // A line along the bottom says nothing.
  if (max < 1e-6) return <span class="dim">–</span>
  // At the right edge is now; a page that was just opened has little to show on the left.
  const step = 100 / (SPARKLINE_POINTS - 1)
  const from = SPARKLINE_POINTS - values.length
  const points = values.map((value, index) => `${(from + index) * step},${22 - (20 * value) / max}`).join(' ')
  return (
    <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label={label}>
      <polyline points={points} />
    </svg>
  )
}

export interface Line {
  label: string
  color: 'pending' | 'processing' | 'success' | 'failed'
  /** null: nothing is known of that time. */
  values: (number | null)[]
}

type Format = (value: number) => string
const PLAIN: Format = (value) => number(value, value < 10 ? 2 : 1)

const CHART_PX = { wide: 170, narrow: 110 }
/** A page that was just opened shows at least this much time, so that the first points do not fill it. */
const WINDOW_S = 60

interface ChartProps {
  /** Seconds. */
  at: number[]
  lines: Line[]
  title: string
  theme: string
  format?: Format
}

/** A chart over time, the latest values in its head. */
export function ChartPanel({ format = PLAIN, ...chart }: ChartProps) {
  const { title, lines } = chart
  return (
    <Panel
      title={title}
      aside={
        <span class="keys">
          {lines.map(({ label, color, values }) => (
            <span key={label} class={`key ${color}`}>
              {label} <b>{latest(values, format)}</b>
            </span>
          ))}
        </span>
      }
    >
      <Chart {...chart} format={format} />
    </Panel>
  )
}

function latest(values: readonly (number | null)[], format: Format): string {
  const value = values.findLast((each) => each !== null) ?? null
  return value === null ? '–' : format(value)
}

/** Drawn anew for another theme, fed otherwise. */
function Chart({ at, lines, title, theme, format }: ChartProps & { format: Format }) {
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | null>(null)
  const data = [at, ...lines.map(({ values }) => values)] as uPlot.AlignedData
  const height = CHART_PX[matchMedia('(max-width: 720px)').matches ? 'narrow' : 'wide']
  const shape = lines.map(({ label: name }) => name).join()
  // Data goes in below; a new theme or language draws anew.
  useEffect(() => {
    const style = getComputedStyle(document.documentElement)
    const color = (name: string) => style.getPropertyValue(`--${name}`).trim()
    const axis = {
      stroke: color('dim'),
      grid: { stroke: color('line'), width: 1 },
      ticks: { show: false },
      font: '11px system-ui',
    }
    const made = new uPlot(
      {
        width: box.current!.clientWidth,
        height,
        padding: [8, 26, 0, 0],
        cursor: { show: false },
        legend: { show: false },
        scales: {
          x: { range: timeRange },
          y: { range: (_plot, _min, max) => [0, (max || 1) * 1.1] },
        },
        axes: [
          { ...axis, space: 90, size: 26, values: (plot, ticks) => ticks.map((tick) => clock(tick, plot.scales.x!)) },
          { ...axis, space: 40, size: 54, values: (_plot, ticks) => ticks.map(format) },
        ],
        series: [
          {},
          ...lines.map(({ label: name, color: of }) => ({
            label: name,
            stroke: color(of),
            fill: `${color(of)}22`,
            width: 2,
            // A value between two slots without one is a point.
            points: { show: false, size: 4, filter: (plot: uPlot, line: number) => alone(plot.data[line]!) },
          })),
        ],
      },
      data,
      box.current!,
    )
    plot.current = made
    const resize = new ResizeObserver(() => made.setSize({ width: box.current!.clientWidth, height }))
    resize.observe(box.current!)
    return () => {
      resize.disconnect()
      made.destroy()
    }
  }, [theme, shape, height])
  // The page is drawn more often than figures arrive.
  const newest = lines.map(({ values }) => values.at(-1)).join()
  useEffect(() => plot.current?.setData(data), [at.length, at[0], at.at(-1), newest])
  return <div class="chart" ref={box} role="img" aria-label={title} />
}

/** The places of values between two without one. */
function alone(values: ArrayLike<number | null | undefined>): number[] {
  const places = Array.from({ length: values.length }, (_, at) => at)
  return places.filter((at) => values[at] != null && values[at - 1] == null && values[at + 1] == null)
}

/** From the data: of a single point, uPlot would make a range of years. */
function timeRange({ data: [times] }: uPlot): [number, number] {
  const end = times.at(-1) ?? Date.now() / 1_000
  return [Math.min(times[0] ?? end, end - WINDOW_S), end]
}

/** A time of a day, with its date where the axis is longer than a day. */
function clock(seconds: number, { min = 0, max = 0 }: uPlot.Scale): string {
  const date = new Date(seconds * 1_000)
  if (max! - min! > 86_400 * 1.5) return date.toLocaleDateString(locale(), { month: 'short', day: 'numeric' })
  return date.toTimeString().slice(0, max! - min! > 1_800 ? 5 : 8)
}

/** The title of the tab, while the component is shown; null until it is known. */
export function usePageTitle(title: string | null): void {
  useEffect(() => {
    if (title !== null) document.title = `${title} · XQueue`
  }, [title])
}

const COMMANDS = [
  ['npx xqueue init my-queue', 'commandInit'],
  ['npx xqueue serve --handlers handlers.ts', 'commandServe'],
] as const

/** In place of task types: how to get the first ones. */
export function NoTypes() {
  return (
    <div class="empty">
      <p>{say('noTypes')}</p>
      <ul class="commands">
        {COMMANDS.map(([command, does]) => (
          <li key={command}>
            <code>{command}</code> <span>{say(does)}</span>
          </li>
        ))}
        <li>
          <a href={urlOf('docs')}>{say('api')}</a> <span>{say('otherLanguages')}</span>
        </li>
      </ul>
    </div>
  )
}

interface MissingProps {
  says: string
  id: string
  /** Where to go on, with its text; default the list of tasks. */
  link?: string
  to?: string
}

/** In place of a thing that is not there, or no longer. */
export function Missing({ says, id, link = '#/tasks', to = say('tasks') }: MissingProps) {
  return (
    <div class="empty">
      <h1>{says}</h1>
      <p>
        <code>{id}</code>
      </p>
      <a class="button" href={link}>
        {to}
      </a>
    </div>
  )
}

export function Panel({
  title,
  aside,
  children,
  class: more = '',
}: {
  title?: string
  /** Beside the title, at the other end of its line. */
  aside?: ComponentChildren
  children: ComponentChildren
  class?: string
}) {
  return (
    <section class={`panel ${more}`} aria-label={title}>
      {title && (
        <div class="panel-head">
          <h2>{title}</h2>
          {aside}
        </div>
      )}
      {children}
    </section>
  )
}

/** Whatever a call was refused with, until the next one. */
export function useAction(): [run: (action: () => Promise<unknown>) => void, error: string] {
  const [error, setError] = useState('')
  const run = (action: () => Promise<unknown>) => {
    setError('')
    action().catch((refused: Error) => setError(refused.message))
  }
  return [run, error]
}

/** In place of what is being read, with the reason if that is refused; it appears only if it takes a while. */
export function Loading({ error = '' }: { error?: string }) {
  if (error === '' || isTold(error)) return <p class="empty loading">{say('loading')}</p>
  return <ErrorLine error={error} />
}

/** While the server is away, the whole page says so already. */
function isTold(error: string): boolean {
  return error === say('noAnswer') && live.connection === 'away'
}

export function ErrorLine({ error }: { error: string }) {
  return error === '' || isTold(error) ? null : (
    <p class="refused" role="alert">
      {error}
    </p>
  )
}
