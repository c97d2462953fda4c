import { call, type Server } from '../client/call.ts'
import { XQueueError } from '../task/errors.ts'
import type { TaskJson } from '../task/task-json.ts'
import { durationText, plain } from './terminal.ts'

/** Ids are UUIDv7: hexadecimal digits, which begin with the time of the submission. */
const PREFIX = /^[0-9a-f-]{4,35}$/
const PAGE = 1_000
/** The list of tasks has no index by id, so this many of the newest tasks are searched at most. */
const SEARCHED_MAX = 5 * PAGE
const SHOWN_MAX = 5

/** Help of the argument. */
export const ID = 'id of the task, or enough of its beginning'

/**
 * The id of the only task whose id begins with a text. Newer tasks have greater ids, so the search ends at the first
 * older one.
 *
 * @throws XQueueError `invalid_config` with the tasks that match, `not_found`
 */
export async function taskIdOf(server: Server, text: string): Promise<string> {
  const prefix = text.toLowerCase().replace(/(…|\.\.\.)$/, '')
  if (!PREFIX.test(prefix)) return text
  const found: TaskJson[] = []
  let cursor: string | null = null
  let searched = 0
  do {
    const from: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`
    const page: Page = await call(server, 'GET', `/tasks?limit=${PAGE}${from}`)
    found.push(...page.tasks.filter(({ id }) => id.startsWith(prefix)))
    if (found.length > SHOWN_MAX) throw ambiguous(text, found)
    searched += page.tasks.length
    cursor = page.next_cursor
    const oldest = page.tasks.at(-1)
    if (oldest && oldest.id < prefix) cursor = null
  } while (cursor !== null && searched < SEARCHED_MAX)
  if (found.length > 1) throw ambiguous(text, found)
  if (cursor !== null) {
    const reason = `it can only be shortened for the newest ${SEARCHED_MAX.toLocaleString('en')} tasks`
    throw new XQueueError('invalid_config', `"${text}" is not a whole task id: ${reason}. Give all of it`)
  }
  if (found.length === 0) throw new XQueueError('not_found', `no task has an id that begins with "${text}"`)
  return found[0]!.id
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
