import { ERRORS, type ErrorCode, type ErrorDetails, invalidField, XQueueError } from '../task/errors.ts'
import { emptiedIn, faultIn } from '../task/json.ts'
import { describeError } from '../task/thrown.ts'
import { MACHINE_TIME, pause } from '../task/time.ts'
import { injectContext } from '../trace/inject.ts'
import { msAsTold } from './patience.ts'
import { type Answer, type Sent, send } from './transport.ts'

/** A server with the key for its access control. */
export interface Server {
  url: string
  key: string | null
  /** Makes the calls, in place of the client's own way. */
  fetch?: typeof fetch | undefined
}

export function addressOf({ url }: Server, path: string): string {
  return `${url.replace(/\/$/, '')}/api/v1${path}`
}

export function authorizationOf({ key }: Server): Record<string, string> {
  return key === null ? {} : { Authorization: `Bearer ${key}` }
}

/** @throws XQueueError `invalid_request` with the path of a value that JSON cannot represent */
export function jsonOf(body: unknown): string {
  let text: string
  try {
    text = JSON.stringify(body)
  } catch (error) {
    const { path, message } = faultIn(body) ?? {
      path: 'the body',
      message: `is not valid JSON: ${describeError(error)}`,
    }
    throw invalidField(path, message)
  }
  const lost = emptiedIn(body, text)
  if (lost) throw invalidField(lost.path, lost.message)
  return text
}

export interface CallOptions {
  signal?: AbortSignal
  /** Whether the call may be carried out twice; default: it only reads. */
  repeatable?: boolean
  /** The body as JSON, in place of its value. */
  text?: string
  headers?: Record<string, string>
  answered?: (answer: Answer) => void
  /** Receives each line of a successful answer, as JSON, as soon as it comes. */
  line?: (json: never) => void
}

/** Codes of failed calls that say that the server has closed the connection. */
const CLOSED: readonly unknown[] = ['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']

/** How long a call is repeated that the server refuses because of its load. */
const PATIENCE_MS = 10_000

/**
 * One call to the server. It is repeated while the server is overloaded, because then nothing was done.
 *
 * @throws XQueueError the server's error, `engine_unavailable` if it cannot be reached, `invalid_config` without a URL
 */
export async function call<T>(...asked: Parameters<typeof exchange>): Promise<T> {
  const [, , , , { signal } = {}] = asked
  let giveUpAt: number | null = null
  for (;;) {
    try {
      return await exchange<T>(...asked)
    } catch (error) {
      if (!(error instanceof XQueueError) || error.code !== 'overloaded') throw error
      giveUpAt ??= performance.now() + PATIENCE_MS
      const waitMs = msAsTold(error)
      if (performance.now() + waitMs > giveUpAt) throw error
      await pause(waitMs, MACHINE_TIME.after, signal)
      signal?.throwIfAborted()
    }
  }
}

/** If the server closes a kept connection before it answers, a repeatable call is sent again at once on another one. */
async function exchange<T>(
  server: Server,
  method: string,
  path: string,
  body?: unknown,
  { signal, repeatable = method === 'GET', text, headers: more = {}, answered, line }: CallOptions = {},
): Promise<T> {
  const headers = { ...authorizationOf(server), ...more }
  injectContext(headers)
  const sent: Sent = {
    method,
    headers,
    ...(signal ? { signal } : {}),
    ...(line ? { received: linesTo(server, line) } : {}),
  }
  if (text !== undefined || body !== undefined) {
    sent.body = text ?? jsonOf(body)
    headers['Content-Type'] = 'application/json'
  }
  const url = addressOf(server, path)
  let answer: Answer
  try {
    answer = await send(url, sent, server.fetch).catch((error: { code?: unknown; cause?: { code?: unknown } }) => {
      if (!repeatable || !CLOSED.includes(error.cause?.code ?? error.code)) throw error
      return send(url, sent, server.fetch)
    })
  } catch (error) {
    signal?.throwIfAborted()
    throw unreachable(server, error as Error)
  }
  reached.add(server)
  answered?.(answer)
  const isEmpty = answer.status === 204 || (line !== undefined && answer.text === '')
  const json = isEmpty ? {} : jsonIn(server, answer)
  if (answer.status >= 200 && answer.status < 300) return json as T
  throw errorOf(json, answer)
}

/** The servers that have answered a call. */
const reached = new WeakSet<Server>()

export function wasReached(server: Server): boolean {
  return reached.has(server)
}

function jsonIn({ url }: Server, { status, statusText, text }: Answer): Record<string, unknown> {
  try {
    return JSON.parse(text)
  } catch {
    const remedy = 'check that `xqueue serve` runs there, and the proxies in front of it'
    throw new XQueueError('engine_unavailable', `${url} answered ${status} ${statusText} without JSON: ${remedy}`)
  }
}

function linesTo(server: Server, line: NonNullable<CallOptions['line']>): (piece: string) => void {
  let rest = ''
  return (piece) => {
    reached.add(server)
    const lines = (rest + piece).split('\n')
    rest = lines.pop()!
    // An empty one shows that the server still waits.
    for (const text of lines) if (text !== '') line(JSON.parse(text) as never)
  }
}

/** The error of an answer of `fetch` that is a refusal, or of none. */
export async function refusalOf(server: Server, response: Response | Error): Promise<XQueueError> {
  if (response instanceof Error) return unreachable(server, response)
  try {
    const { status, statusText, headers } = response
    const answer = { status, statusText, text: await response.text(), header: (name: string) => headers.get(name) }
    return errorOf(jsonIn(server, answer), answer)
  } catch (error) {
    return error instanceof XQueueError ? error : unreachable(server, error as Error)
  }
}

function unreachable({ url }: Server, error: Error): XQueueError {
  if (!isUrl(url)) {
    const detail = `${JSON.stringify(url)} is not the URL of a server: use one such as http://127.0.0.1:8080`
    return new XQueueError('invalid_config', detail)
  }
  const reason = reasonOf(error)
  const remedy =
    reason === 'bad port'
      ? '`fetch` refuses this port: let the server use another'
      : 'check that `xqueue serve` runs there'
  const detail = `${url} cannot be reached (${reason}): ${remedy}`
  return new XQueueError('engine_unavailable', detail)
}

/** In a page, also a URL that is relative to the page. */
function isUrl(text: string): boolean {
  try {
    const page = (globalThis as { location?: { href: string } }).location?.href
    return /^https?:$/.test(new URL(text, page).protocol)
  } catch {
    return false
  }
}

/** Of a name with several addresses, the reason of the first one. */
function reasonOf(error: Error): string {
  const cause = error.cause instanceof Error ? error.cause : error
  return cause instanceof AggregateError ? reasonOf(cause.errors[0]) : cause.message
}

/** Members of every problem document; the others are the details of its code. */
const COMMON: readonly string[] = ['type', 'title', 'status', 'detail', 'code', 'request_id']

function errorOf(problem: Record<string, unknown>, { statusText, header }: Answer): XQueueError {
  const code = Object.hasOwn(ERRORS, String(problem.code)) ? (problem.code as ErrorCode) : 'internal'
  const details: ErrorDetails = Object.fromEntries(Object.entries(problem).filter(([name]) => !COMMON.includes(name)))
  const seconds = Number(header('retry-after') ?? Number.NaN)
  if (seconds >= 0) details.retry_after = seconds
  return new XQueueError(code, String(problem.detail ?? statusText), details)
}
