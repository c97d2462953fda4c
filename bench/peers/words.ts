/** A text in the languages of the documentation. */
export interface Words {
  en: string
  zh: string
}
export type Language = keyof Words

/** Texts of cells; a cell of numbers alone is the same in every language. */
export type Cell = Words | string
export const inWords = (cell: Cell, language: Language) => (typeof cell === 'string' ? cell : cell[language])

/** A Markdown table whose columns line up, with Chinese characters two wide. */
export function table(language: Language, head: readonly Cell[], rows: readonly (readonly Cell[])[]): string {
  const texts = [head, ...rows].map((row) => row.map((cell) => inWords(cell, language)))
  const widths = head.map((_, column) => Math.max(3, ...texts.map((row) => widthOf(row[column]!))))
  const line = (row: string[]) =>
    `| ${row.map((text, column) => text + ' '.repeat(widths[column]! - widthOf(text))).join(' | ')} |`
  const [first, ...others] = texts
  return [line(first!), `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...others.map(line)].join('\n')
}

function widthOf(text: string): number {
  return [...text].reduce((sum, character) => sum + (/[\u2e80-\uffef]/.test(character) ? 2 : 1), 0)
}

export function show(figure: number): string {
  const digits = Math.abs(figure) < 10 ? 2 : Math.abs(figure) < 100 ? 1 : 0
  return figure.toLocaleString('en', { maximumFractionDigits: digits })
}
