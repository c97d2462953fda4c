/** A function, method, constant or SQL statement of a source text, from its first line to its last. */
export interface Definition {
  name: string
  start: number
  end: number
}

/** First lines of definitions: indentation and name. Sources are formatted, so indentation shows where one ends. */
const FIRST_LINES = {
  ts: [
    /^( *)(?:export )?(?:async )?function\*? (\w+)/,
    /^( *)(?:export )?const (\w+)\b.* =/,
    /^( *)(?:(?:private|static|readonly|async) |\*)*#?(\w+)(?:<.*>)?(?: = (?:async )?)?\((?:.*[{(])?$/,
  ],
  lua: [/^( *)(?:local )?function (?:\w+\.)?(\w+)\(/, /^( *)(?:local )?(\w+) = function\(/],
  sql: [/^()-- name: (\w+)/],
}
/** Words that begin a block as a method begins. */
const KEYWORDS = new Set(['if', 'for', 'while', 'switch', 'catch', 'return', 'super', 'constructor'])

export function definitionsOf(text: string, language: keyof typeof FIRST_LINES): Definition[] {
  const lines = text.split('\n')
  const starts = [0]
  for (const line of lines) starts.push(starts.at(-1)! + line.length + 1)
  return lines.flatMap((line, index) => {
    const match = FIRST_LINES[language].map((pattern) => pattern.exec(line)).find((found) => found !== null)
    if (!match || KEYWORDS.has(match[2]!)) return []
    const last = language === 'sql' ? lastOfStatement(lines, index) : lastOfBlock(lines, index, match[1]!.length)
    return [{ name: match[2]!, start: starts[index]!, end: starts[last + 1]! }]
  })
}

/** The block ends with a line that closes it at the same indentation, or before a line that is no part of it. */
function lastOfBlock(lines: readonly string[], first: number, indentation: number): number {
  for (let at = first + 1; at < lines.length; at++) {
    const line = lines[at]!
    const depth = line.length - line.trimStart().length
    if (line.trim() === '' || depth > indentation) continue
    if (depth < indentation || !/^\s*(?:[)\]}]|end\b)/.test(line)) return at - 1
    if (!/[([{]$/.test(line)) return at
  }
  return lines.length - 1
}

function lastOfStatement(lines: readonly string[], first: number): number {
  const next = lines.findIndex((line, at) => at > first && line.startsWith('-- name: '))
  return next === -1 ? lines.length - 1 : next - 1
}
