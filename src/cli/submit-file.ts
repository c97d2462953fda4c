import { createReadStream } from 'node:fs'
import { call } from '../client/call.ts'
import { XQueueError } from '../task/errors.ts'
import { TASK_LIMITS } from '../task/task.ts'
import { type ClientOptions, parseJson, show } from './output.ts'

/** Tasks of one call, when the file may go in several. */
const PIECE = 1_000

export interface FileOptions extends ClientOptions {
  /** All of the file in one call. */
  together?: boolean
  /** For the lines that name none. */
  batch?: string
}

interface Line {
  number: number
  task: unknown
}

/** Submits a task a line: in pieces, or all or none. */
export async function submitFile(path: string, options: FileOptions): Promise<void> {
  const startedAt = performance.now()
  let submitted = 0
  try {
    for await (const lines of piecesOf(path, options)) {
      const body = { tasks: lines.map(({ task }) => task) }
      const answer = call<{ count: number }>(options.server, 'POST', '/tasks/batch', body)
      submitted += (await answer.catch((error) => Promise.reject(byLine(error, lines)))).count
      if (process.stderr.isTTY) process.stderr.write(`\r${submitted} submitted, ${rate(submitted, startedAt)}/s `)
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new XQueueError('invalid_config', `there is no file ${path}`)
    }
    process.stderr.write(`${submitted} tasks were submitted before this:\n`)
    throw error
  } finally {
    if (process.stderr.isTTY) process.stderr.write('\n')
  }
  const done = { submitted, per_second: rate(submitted, startedAt) }
  show(done, options, () => `${submitted} submitted, ${done.per_second}/s`)
}

/** What goes in one call each. */
async function* piecesOf(path: string, { together = false, batch }: FileOptions): AsyncGenerator<Line[]> {
  const input = path === '-' ? process.stdin : createReadStream(path)
  let piece: Line[] = []
  let number = 0
  for await (const text of linesOf(input)) {
    number += 1
    if (text.trim() === '') continue
    const task = parseJson(text, `line ${number}`)
    if (!together) refusePlaces(task, number)
    piece.push({ number, task: batch === undefined || !isObject(task) ? task : { batch, ...task } })
    if (together && piece.length > TASK_LIMITS.batchTasksMax) throw tooMany()
    if (together || piece.length < PIECE) continue
    yield piece
    piece = []
  }
  if (piece.length > 0) yield piece
}

/** Lines as JSON Lines has them. Node's readline also ends one at U+2028 and U+2029, which JSON allows in a text. */
async function* linesOf(input: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder() // Leaves out a byte order mark at the start.
  let begun = ''
  for await (const chunk of input) {
    const lines = (begun + decoder.decode(chunk, { stream: true })).split('\n')
    begun = lines.pop()!
    yield* lines
  }
  yield begun + decoder.decode()
}

/** A place counts within one call, and nobody sees where a piece begins. */
function refusePlaces(task: unknown, line: number): void {
  const { after } = task as { after?: unknown[] }
  const place = isObject(task) && Array.isArray(after) ? after.find((id) => typeof id === 'number') : undefined
  if (place === undefined) return
  const remedy = 'submit the file with --together, which is one call'
  throw new XQueueError('invalid_config', `line ${line} waits for ${place}, a place in a batch: ${remedy}`)
}

function tooMany(): XQueueError {
  const most = `one call takes ${TASK_LIMITS.batchTasksMax} tasks, and the file has more`
  return new XQueueError('invalid_config', `${most}: leave out --together, or make several files of it`)
}

/** What the server says of a task of the call, said of its line. */
function byLine(error: unknown, lines: readonly Line[]): unknown {
  if (!(error instanceof XQueueError)) return error
  const named = (text: string) => text.replace(/\btasks\[(\d+)\]\.?/g, (_, index) => `line ${lines[index]?.number}: `)
  const errors = error.details.errors?.map(({ path, message }) => ({ path: named(path).replace(/: $/, ''), message }))
  return new XQueueError(error.code, named(error.message), { ...error.details, ...(errors ? { errors } : {}) })
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function rate(count: number, since: number): number {
  return Math.round((count / Math.max(performance.now() - since, 1)) * 1_000)
}
