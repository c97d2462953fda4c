import { createReadStream } from 'node:fs'
import { call } from '../client/call.ts'
import { XQueueError } from '../task/errors.ts'
import { TASK_LIMITS } from '../task/task.ts'
import { type ClientOptions, parseJson, show } from './output.ts'

/** Tasks per call, if the file is submitted in several calls. */
const PIECE = 1_000

export interface FileOptions extends ClientOptions {
  /** Submits the file in one call. */
  together?: boolean
  /** The batch of lines without one. */
  batch?: string
}

interface Line {
  number: number
  task: unknown
}

/** Submits one task per line: in several calls, or all or none. */
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
      throw new XQueueError('invalid_config', `the file ${path} does not exist`)
    }
    process.stderr.write(`${submitted} tasks were submitted before this error:\n`)
    throw error
  } finally {
    if (process.stderr.isTTY) process.stderr.write('\n')
  }
  const done = { submitted, per_second: rate(submitted, startedAt) }
  show(done, options, () => `${submitted} submitted, ${done.per_second}/s`)
}

/** The lines of each call. */
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

/** Lines of JSON Lines. Node's readline also breaks at U+2028 and U+2029, which JSON allows in a string. */
async function* linesOf(input: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder() // Skips a byte order mark at the start.
  let begun = ''
  for await (const chunk of input) {
    const lines = (begun + decoder.decode(chunk, { stream: true })).split('\n')
    begun = lines.pop()!
    yield* lines
  }
  yield begun + decoder.decode()
}

/** A position counts within one call, and the caller does not see where a call begins. */
function refusePlaces(task: unknown, line: number): void {
  const { after } = task as { after?: unknown[] }
  const place = isObject(task) && Array.isArray(after) ? after.find((id) => typeof id === 'number') : undefined
  if (place === undefined) return
  const remedy = 'submit the file in one call with --together'
  throw new XQueueError('invalid_config', `line ${line} has the position ${place} in after: ${remedy}`)
}

function tooMany(): XQueueError {
  const most = `the file has more than ${TASK_LIMITS.batchTasksMax} lines, the maximum of one call`
  return new XQueueError('invalid_config', `${most}: omit --together, or split the file`)
}

/** The server's error about a task of the call, with its line number. */
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
