import { XQueueError } from '../task/errors.ts'
import { print } from './output.ts'
import { isTerminal } from './terminal.ts'

const EVERY_MS = 2_000
const HOME_AND_CLEAR = '\u001b[H\u001b[J'

/**
 * Prints a text once; with `watches`, again every two seconds in place of the previous one, until the user stops it.
 *
 * @throws XQueueError `invalid_config` without a terminal
 */
export async function printOrWatch(watches: boolean | undefined, read: () => Promise<string>): Promise<void> {
  if (!watches) return print(await read())
  if (!isTerminal()) {
    throw new XQueueError('invalid_config', '--watch needs a terminal: in a script use `xqueue watch --json`')
  }
  for (;;) {
    const text = await read()
    // More rows than the terminal has would scroll.
    const rows = text.split('\n').slice(0, (process.stdout.rows ?? 24) - 1)
    process.stdout.write(`${HOME_AND_CLEAR}${rows.join('\n')}\n`)
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS))
  }
}
