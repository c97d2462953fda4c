import { styleText } from 'node:util'
import type { Status } from '../task/status.ts'

/** How text looks on a terminal. In a pipe it stays plain and complete, so that scripts can rely on it. */

type Style = Parameters<typeof styleText>[0]

export const isTerminal = (): boolean => process.stdout.isTTY === true

/** Width of the terminal; some say 0, when they do not know it. In a pipe, lines are never shortened. */
export const columns = (): number => (isTerminal() ? process.stdout.columns || 80 : Number.POSITIVE_INFINITY)

/** Colored on a terminal, unless NO_COLOR is set; FORCE_COLOR colors it in a pipe too. */
export function paint(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stdout })
}

const STATUSES: Readonly<Record<Status, [symbol: string, style: Style]>> = {
  pending: ['○', 'yellow'],
  processing: ['●', 'blue'],
  success: ['✓', 'green'],
  failed: ['✗', 'red'],
  canceled: ['⊘', 'gray'],
  timeout: ['◷', 'magenta'],
}

/** A cell of a table in a style of its own. */
export class Styled {
  readonly text: string
  readonly style: Style

  constructor(text: string, style: Style) {
    this.text = text
    this.style = style
  }

  toString(): string {
    return paint(this.style, this.text)
  }
}

export function statusCell(status: Status): Styled | string {
  const [symbol, style] = STATUSES[status]
  return isTerminal() ? new Styled(`${symbol} ${status}`, style) : status
}

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
] as const

/** A duration in its two largest units, such as `2h 5m`. */
export function durationText(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))}ms`
  const first = UNITS.findIndex(([, unitMs]) => ms >= unitMs)
  const [unit, unitMs] = UNITS[first]!
  const next = UNITS[first + 1]
  const rest = next ? Math.floor((ms % unitMs) / next[1]) : 0
  const whole = `${Math.floor(ms / unitMs)}${unit}`
  return next && rest > 0 ? `${whole} ${rest}${next[0]}` : whole
}

/** A time as people read it, such as `3m ago` or `in 5s`; in a pipe the time itself. */
export function timeText(time: string | null, now = Date.now()): string {
  if (time === null || !isTerminal()) return time ?? '–'
  const agoMs = now - Date.parse(time)
  return agoMs >= 0 ? `${durationText(agoMs)} ago` : `in ${durationText(-agoMs)}`
}

/** Both the time and how long ago it is, where a person reads it. */
export function timeBoth(time: string): string {
  return isTerminal() ? `${time} (${timeText(time)})` : time
}

const WIDE =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\uFF00-\uFF60]/u

/** Columns that a text takes on a terminal. */
export function widthOf(text: string): number {
  let width = 0
  for (const char of text) width += /\p{M}/u.test(char) ? 0 : WIDE.test(char) ? 2 : 1
  return width
}

/** A text of at most `width` columns; a shortened one ends with `…`. */
export function fitted(text: string, width: number): string {
  if (widthOf(text) <= width) return text
  let [kept, used] = ['', 1]
  for (const char of text) {
    used += widthOf(char)
    if (used > width) break
    kept += char
  }
  return `${kept}…`
}

/** A column is never shorter than this, or its head. */
const NARROW = 8
const GAP = 2

/**
 * Columns as wide as their widest cell. On a terminal that is too narrow for them, the widest columns shorten; a column
 * of ids stays whole, because a part of an id is of no use. Control characters in cells are removed.
 */
export function table(head: readonly string[], rows: readonly (readonly unknown[])[]): string {
  const lines = [head, ...rows].map((cells) => cells.map(cellOf))
  const widths = head.map((_, column) => Math.max(...lines.map((cells) => widthOf(cells[column]!.text))))
  shorten(
    widths,
    head.map((name, column) => (isOfIds(name) ? widths[column]! : Math.max(NARROW, widthOf(name)))),
  )
  const shown = lines.map((cells) =>
    cells
      .map((cell, column) => {
        const text = fitted(cell.text, widths[column]!)
        const isLast = column === cells.length - 1
        const space = isLast ? '' : ' '.repeat(widths[column]! - widthOf(text) + GAP)
        return (cell.style === undefined ? text : paint(cell.style, text)) + space
      })
      .join('')
      .trimEnd(),
  )
  return [dimmed(shown[0]!), ...shown.slice(1)].join('\n')
}

function isOfIds(head: string): boolean {
  return /^(ID|HELD BY TASK)$/i.test(head)
}

function cellOf(cell: unknown): { text: string; style?: Style } {
  return cell instanceof Styled ? cell : { text: plain(String(cell ?? '–')) }
}

/** Shortens the widest columns until all fit the terminal, none below its least width. */
function shorten(widths: number[], least: readonly number[]): void {
  let excess = widths.reduce((sum, width) => sum + width + GAP, -GAP) - columns()
  for (; excess > 0; excess--) {
    const spare = widths.map((width, column) => (width > least[column]! ? width : 0))
    const widest = spare.indexOf(Math.max(...spare))
    if (spare[widest] === 0) return
    widths[widest] = widths[widest]! - 1
  }
}

/** One fact per line. Control characters are removed. */
export function facts(value: Readonly<Record<string, unknown>>): string {
  const rows = Object.entries(value).map(([name, fact]): [string, unknown] => [
    name,
    typeof fact === 'object' && fact !== null && !(fact instanceof Styled) ? JSON.stringify(fact) : fact,
  ])
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows
    .map(([name, fact]) => {
      const text = fact instanceof Styled ? String(fact) : plain(String(fact ?? '–'))
      return `${dimmed(name.padEnd(width))}  ${text}`
    })
    .join('\n')
}

export function dimmed(text: string): string {
  return isTerminal() ? paint('dim', text) : text
}

/** Data of users without control characters, which could change the terminal; a line break becomes a space. */
export function plain(text: string): string {
  return text.replace(/\p{Cc}/gu, (char) => (char === '\n' ? ' ' : '�'))
}

/** The same for a text of several lines. */
export function plainLines(text: string): string {
  return text.split('\n').map(plain).join('\n')
}
