/** What every generated document begins with. */
export const MARK = '<!-- Made by `npm run reference`: do not edit. -->'

export function documentOf(...parts: readonly string[]): string {
  return `${[MARK, ...parts].join('\n\n')}\n`
}

export function block(text: string, language = 'text'): string {
  return `\`\`\`${language}\n${text.replaceAll(/ +$/gm, '')}\n\`\`\``
}

export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(heads), line(heads.map(() => '---')), ...rows.map(line)].join('\n')
}

export function code(text: string): string {
  return `\`${text}\``
}
