import { call, type Server } from '../client/call.ts'
import { XQueueError } from '../task/errors.ts'
import type { TaskJson } from '../task/task-json.ts'
import { durationText, plain } from './terminal.ts'

/** Ids are UUIDv7: hexadecimal digits, which begin with the time of the submission. */
const PREFIX = /^[0-9a-f-]{4,35}$/
const PAGE = 1_000
/** Of the time in an id. */
const TIME_DIGITS = 12
/** The last time that has a text of four digits for the year. */
const TIME_MAX = Date.UTC(9999, 11, 31)
/** The server finds tasks by their time, not by their id, so this many of the time that a text leaves open are read. */
const SEARCHED_MAX = 5 * PAGE
const SHOWN_MAX = 5

/** Help of the argument. */
export const ID = 'id of the task, or enough of its beginning'

/**
 * The id of the only task whose id begins with a text. The text begins with the time, so only tasks of that time are
 * searched.
 *
 * @throws XQueueError `invalid_config` with the tasks that match, `not_found`
 */
export async function taskIdOf(server: Server, text: string): Promise<string> {
  const prefix = text.toLowerCase().replace(/(…|\.\.\.)$/, '')
  if (!PREFIX.test(prefix)) return text
  const found: TaskJson[] = []
  const times = timesOf(prefix)
  let cursor: string | null = null
  let searched = 0
  do {
    const from: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`
    const page: Page = await call(server, 'GET', `/tasks?limit=${PAGE}&${times}${from}`)
    found.push(...page.tasks.filter(({ id }) => id.startsWith(prefix)))
    if (found.length > SHOWN_MAX) throw ambiguous(text, found)
    searched += page.tasks.length + 1
    cursor = page.next_cursor
  } while (cursor !== null && searched < SEARCHED_MAX)
  if (found.length > 1) throw ambiguous(text, found)
  if (cursor !== null) {
    const reason = `more than ${SEARCHED_MAX.toLocaleString('en')} tasks were submitted at that time`
    throw new XQueueError('invalid_config', `"${text}" is not a whole task id: ${reason}. Give all of it`)
  }
  if (found.length === 0) throw new XQueueError('not_found', `no task has an id that begins with "${text}"`)
  return found[0]!.id
}

/** The filter for tasks of the times that begin with these digits. */
function timesOf(prefix: string): URLSearchParams {
  const digits = prefix.replaceAll('-', '').slice(0, TIME_DIGITS)
  const [from, to] = [digits.padEnd(TIME_DIGITS, '0'), digits.padEnd(TIME_DIGITS, 'f')].map((time) =>
    Math.min(Number.parseInt(time, 16), TIME_MAX),
  ) as [number, number]
  const text = (time: number) => new Date(time).toISOString()
  return new URLSearchParams({ created_after: text(from), created_before: text(to + 1) })
}

interface Page {
  tasks: TaskJson[]
  next_cursor: string | null
}

function ambiguous(text: string, found: readonly TaskJson[]): XQueueError {
  const lines = found.slice(0, SHOWN_MAX).map(({ id, type, status, created_at }) => {
    return `  ${id}  ${plain(type)}  ${status}, ${durationText(Date.now() - Date.parse(created_at))} old`
  })
  const more = found.length > SHOWN_MAX ? '\n  …' : ''
  const message = `the id of several tasks begins with "${text}". Give more of it:\n${lines.join('\n')}${more}`
  return new XQueueError('invalid_config', message)
}
