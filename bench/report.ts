import { cpus, loadavg, totalmem } from 'node:os'

/** One line of the table: a median of XQueue beside one of something else from the same run. */
export interface Row {
  measure: string
  unit: string
  xqueue: number
  beside: string
  other: number | null
  /** The median of the rounds' own ratios: what the machine does meanwhile hits both sides of a round. */
  ratio: number | null
  /** All figures, in the order they were taken. */
  rounds: { xqueue: number[]; other: number[] }
}

export function ratioRow(measure: string, unit: string, xqueue: number[], beside: string, other: number[]): Row {
  const ratios = other.map((figure, round) => xqueue[round]! / figure)
  const [ours, theirs] = [median(xqueue), other.length > 0 ? median(other) : null]
  const ratio = ratios.length > 0 && Math.min(...ratios) > 0 ? median(ratios) : null
  return { measure, unit, xqueue: ours, beside, other: theirs, ratio, rounds: { xqueue, other } }
}

export function median(figures: readonly number[]): number {
  return quantile(figures, 0.5)
}

export function quantile(figures: readonly number[], share: number): number {
  const sorted = [...figures].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!
}

export function machine() {
  const [cpu] = cpus()
  const gib = Math.round(totalmem() / 2 ** 30)
  return {
    cpu: cpu?.model ?? 'unknown',
    cores: cpus().length,
    memory_gib: gib,
    node: process.version,
    os: process.platform,
    /** What the machine did before. */
    load: loadavg()[0]!,
  }
}

/** As Markdown, so that it can stand in the README as it is. */
export function table(rows: readonly Row[]): string {
  const lines = rows.map(({ measure, unit, xqueue, beside, other, ratio }) => {
    const theirs = other === null ? '' : `${show(other)} (${beside})`
    return `| ${measure} | ${show(xqueue)} ${unit} | ${theirs} | ${ratio === null ? '' : `${ratio.toFixed(2)} ×`} |`
  })
  return ['| measure | XQueue | beside it | ratio |', '| --- | --- | --- | --- |', ...lines].join('\n')
}

function show(figure: number): string {
  return figure.toLocaleString('en', { maximumFractionDigits: Math.abs(figure) < 100 ? 2 : 0 })
}
