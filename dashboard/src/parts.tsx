import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import uPlot from 'uplot'
import type { Json, Percentiles, Status, Task } from './api.ts'
import { duration, say } from './words.ts'

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

export function Progress({ progress }: { progress: Task['progress'] }) {
  if (typeof progress !== 'number') return <span class="dim">{progress === null ? '' : JSON.stringify(progress)}</span>
  return (
    <span class="progress">
      <Meter value={progress} max={100} label={say('progress')} /> {progress}%
    </span>
  )
}

export function Times({ of }: { of: Percentiles | null }) {
  if (!of) return <span class="dim">–</span>
  return (
    <span class="nowrap">
      {duration(of.p50)} · {duration(of.p95)} · {duration(of.p99)}
    </span>
  )
}

export function Sparkline({ values, label }: { values: readonly number[]; label: string }) {
  const max = Math.max(...values, 1e-9)
  const step = 100 / Math.max(values.length - 1, 1)
  const points = values.map((value, index) => `${index * step},${23 - (22 * value) / max}`).join(' ')
  return (
    <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label={label}>
      <polyline points={points} />
    </svg>
  )
}

export interface Line {
  label: string
  color: string
  values: number[]
}

/** A chart over time; drawn anew for another theme, fed otherwise. */
export function Chart({ at, lines, label, theme }: { at: number[]; lines: Line[]; label: string; theme: string }) {
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | null>(null)
  const data = [at, ...lines.map(({ values }) => values)] as uPlot.AlignedData
  const shape = lines.map(({ label: name }) => name).join()
  // Data goes in below; a new theme or language draws anew.
  useEffect(() => {
    const style = getComputedStyle(document.documentElement)
    const color = (name: string) => style.getPropertyValue(name).trim()
    const axis = {
      stroke: color('--dim'),
      grid: { stroke: color('--line'), width: 1 },
      ticks: { show: false },
      font: '11px system-ui',
    }
    const made = new uPlot(
      {
        width: box.current!.clientWidth,
        height: 160,
        cursor: { y: false },
        legend: { live: false },
        scales: { y: { range: (_plot, _min, max) => [0, Math.max(max * 1.1, 1)] } },
        axes: [
          { ...axis, space: 80, values: (_plot, ticks) => ticks.map(clock) },
          { ...axis, size: 44 },
        ],
        series: [
          {},
          ...lines.map(({ label: name, color: of }) => ({
            label: name,
            stroke: color(of),
            fill: `${color(of)}22`,
            width: 2,
            points: { show: false },
          })),
        ],
      },
      data,
      box.current!,
    )
    plot.current = made
    const resize = new ResizeObserver(() => made.setSize({ width: box.current!.clientWidth, height: 160 }))
    resize.observe(box.current!)
    return () => {
      resize.disconnect()
      made.destroy()
    }
  }, [theme, shape])
  useEffect(() => plot.current?.setData(data))
  return <div class="chart" ref={box} role="img" aria-label={label} />
}

function clock(seconds: number): string {
  return new Date(seconds * 1_000).toTimeString().slice(0, 8)
}

export function JsonBlock({ value, label }: { value: Json; label: string }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <pre role="group" tabIndex={0} aria-label={label}>
      {typeof value === 'string' ? value : JSON.stringify(value, null, 2)}
    </pre>
  )
}

export function Panel({
  title,
  children,
  class: more = '',
}: {
  title?: string
  children: ComponentChildren
  class?: string
}) {
  return (
    <section class={`panel ${more}`} aria-label={title}>
      {title && <h2>{title}</h2>}
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

export function ErrorLine({ error }: { error: string }) {
  return error === '' ? null : (
    <p class="refused" role="alert">
      {error}
    </p>
  )
}
