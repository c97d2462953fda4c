/** Frames of Node.js, of packages, and of the standard library and packages of Python. */
const FRAME = /^\s+at .*(?:node:|node_modules)|^\s+File ".*(?:site-packages|dist-packages|\/lib\/python)/
/** Python shows the source of each frame below it, and a line of carets. */
const SOURCE = /^\s{4,}\S/

/** An error with consecutive frames of libraries folded into one line each; the first frame always stays. */
export function foldedStack(error: string): string {
  const shown: string[] = []
  let folded = 0
  const end = () => {
    if (folded > 0) shown.push(`    … ${folded} ${folded === 1 ? 'frame' : 'frames'} of libraries`)
    folded = 0
  }
  const lines = error.split('\n')
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!
    const isFirst = !shown.some((one) => /^\s+(?:at |File ")/.test(one))
    if (!FRAME.test(line) || (isFirst && folded === 0)) {
      end()
      shown.push(line)
      continue
    }
    folded += 1
    while (line.includes('File "') && SOURCE.test(lines[at + 1] ?? '') && !/^\s+File "/.test(lines[at + 1]!)) at += 1
  }
  end()
  return shown.join('\n')
}
