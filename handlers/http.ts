import { type Static, Type } from 'typebox'
import { Agent, type Dispatcher, request } from 'undici'
import { DoNotRetry, RetryAfter } from '../src/task/retry.ts'
import type { Handler, Log } from '../src/worker/handler.ts'
import { checkUrl, publicLookup } from './http-guard.ts'
import { SIGNATURE_HEADERS, signatureOf } from './http-signature.ts'
import { retryAfterMs, retryAfterNote } from './retry-after.ts'
import { standard } from './schema.ts'

const REDIRECTS_MAX = 5
const BODY_BYTES_MAX = 64 * 1024
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'] as const
/** Not sent on to another origin: what is secret. */
const HEADERS_OF_ORIGIN = ['authorization', 'cookie', 'proxy-authorization']
/**
 * Not a submitter's to set. Another `Host` would reach a site behind the address that was checked; the others belong to
 * the connection.
 */
const HEADERS_OF_OURS =
  /^(host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|content-length|expect|proxy-connection)$/
/** undici's words for a request that can never be sent. */
const UNSENDABLE = ['UND_ERR_INVALID_ARG', 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH', 'UND_ERR_NOT_SUPPORTED']

const payload = Type.Object(
  {
    url: Type.String({ minLength: 8, maxLength: 8_000 }),
    method: Type.Optional(Type.Unsafe<(typeof METHODS)[number]>(Type.Enum([...METHODS]))),
    headers: Type.Optional(Type.Record(Type.String(), Type.String())),
    body: Type.Optional(Type.Unknown({ description: 'A string is sent unchanged, any other value as JSON' })),
  },
  { additionalProperties: false },
)

type Call = Static<typeof payload>
type Answer = { status: number; url: string; content_type: string | null; body: string }

const publicAgent = new Agent({ connect: { lookup: publicLookup as never } })
const anyAgent = new Agent()

/** How long it may take is up to the task: its signal ends the call. */
const NO_TIME_OUTS = { headersTimeout: 0, bodyTimeout: 0 }

/**
 * Calls a URL: a webhook with no worker written. 2xx succeeds; network errors, 408, 429 and 5xx are retried, after
 * Retry-After where it is given, at most a day; any other answer fails at once. It may take as long as the task's
 * `process_timeout` allows. It is signed where XQUEUE_HTTP_SECRET or XQUEUE_HTTP_SECRETS has a secret for the
 * destination: see `signatureOf`.
 */
export const http: Handler<Call, Answer> = {
  processTimeout: '1m',
  payload: standard(payload),
  run: async (task, { signal, log }) => {
    const { method = task.payload.body === undefined ? 'GET' : 'POST', body } = task.payload
    const text = body === undefined ? null : typeof body === 'string' ? body : JSON.stringify(body)
    const given = Object.entries(task.payload.headers ?? {}).map(
      ([name, value]) => [name.toLowerCase(), value] as const,
    )
    const own = given.find(([name]) => HEADERS_OF_OURS.test(name))
    if (own) throw new DoNotRetry(`headers.${own[0]} cannot be set by a task: remove it`)
    const headers: Record<string, string> = {
      'user-agent': 'XQueue',
      ...(text !== null && typeof body !== 'string' ? { 'content-type': 'application/json' } : {}),
      // Headers that a receiver trusts as XQueue's cannot be set by a task.
      ...Object.fromEntries(given.filter(([name]) => !SIGNATURE_HEADERS.test(name))),
      'x-xqueue-task-id': task.id,
    }
    const first = { id: task.id, url: urlOf(task.payload.url), method, headers, body: text, trusted: true }
    return follow(first, signal, log)
  },
}

interface Hop {
  /** Of the task. */
  id: string
  url: URL
  method: Dispatcher.HttpMethod
  headers: Record<string, string>
  body: string | null
  /** Never left the origin that was asked for: may have the secrets and the signature. */
  trusted: boolean
}

async function follow(first: Hop, signal: AbortSignal, log: Log): Promise<Answer> {
  const allowPrivate = process.env.XQUEUE_HTTP_ALLOW_PRIVATE === 'true'
  const dispatcher = allowPrivate ? anyAgent : publicAgent
  let hop = first
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects++) {
    hop = withoutCredentials(hop)
    const { url, method, headers, body, trusted } = hop
    checkUrl(url, allowPrivate)
    const signed = {
      ...headers,
      ...(trusted ? signatureOf({ id: first.id, method, url, body: body ?? '' }, Date.now()) : {}),
    }
    const call = { method, headers: signed, body, signal, dispatcher, ...NO_TIME_OUTS }
    const response = await request(url, call).catch(judge)
    const location = response.headers.location
    const { statusCode: status } = response
    if (![301, 302, 303, 307, 308].includes(status) || typeof location !== 'string') {
      return answerOf(response, url, log)
    }
    await response.body.dump({ limit: BODY_BYTES_MAX })
    hop = redirected(hop, urlOf(location, url), status)
  }
  throw new DoNotRetry(`${first.url.origin} redirected more than ${REDIRECTS_MAX} times`)
}

/** As browsers do (Fetch standard, HTTP-redirect fetch): 303, and 301/302 of a POST, go on as GET without a body. */
function redirected({ id, url, method, headers, body, trusted }: Hop, next: URL, status: number): Hop {
  const asGet = status === 303 || (status < 303 && method === 'POST')
  const stays = next.origin === url.origin
  const kept = Object.entries(headers).filter(([name]) => stays || !HEADERS_OF_ORIGIN.includes(name))
  const fields = Object.fromEntries(kept.filter(([name]) => !asGet || !name.startsWith('content-')))
  const hop = { id, url: next, headers: fields, trusted: trusted && stays }
  return asGet && method !== 'HEAD' ? { ...hop, method: 'GET', body: null } : { ...hop, method, body }
}

function urlOf(text: string, base?: URL): URL {
  if (!URL.canParse(text, base?.href)) throw new DoNotRetry('the URL is not valid: use the form https://host/path')
  return new URL(text, base?.href)
}

/** A network error may pass; headers that cannot be sent will not. */
function judge(error: Error & { code?: string }): never {
  if (UNSENDABLE.includes(error.code ?? '')) throw new DoNotRetry(`the request cannot be sent: ${error.message}`)
  throw error
}

async function answerOf(response: Dispatcher.ResponseData, url: URL, log: Log): Promise<Answer> {
  const { statusCode: status, headers } = response
  const body = await readSome(response.body)
  if (status >= 200 && status < 300) {
    const type = headers['content-type']
    return { status, url: url.href, content_type: typeof type === 'string' ? type : null, body }
  }
  const told = `${url.origin}${url.pathname} answered ${status}: ${body.slice(0, 500)}`
  if (status !== 408 && status !== 429 && status < 500) throw new DoNotRetry(told)
  const [header, now] = [headers['retry-after'], Date.now()]
  const delayMs = retryAfterMs(header, now)
  const note = retryAfterNote(header, now)
  if (note !== null) log.info({ status, retry_after: header, delay_ms: delayMs }, note)
  throw delayMs === null ? new Error(told) : new RetryAfter(delayMs / 1_000, told)
}

/** Up to 64 KiB of the body as text; what comes after is not read. */
async function readSome(stream: Dispatcher.ResponseData['body']): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of stream) {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes >= BODY_BYTES_MAX) break
  }
  return Buffer.concat(chunks).subarray(0, BODY_BYTES_MAX).toString()
}

/**
 * Credentials in a URL are sent as Basic authentication (RFC 7617), unless the headers bring their own, and stand
 * neither in the result nor in an error.
 */
function withoutCredentials(hop: Hop): Hop {
  const { username, password } = hop.url
  if (username === '' && password === '') return hop
  const url = new URL(hop.url)
  url.username = ''
  url.password = ''
  if ('authorization' in hop.headers) return { ...hop, url }
  const user = decoded(username)
  if (user.includes(':'))
    throw new DoNotRetry(`the user of ${url.origin} contains a colon, which Basic authentication does not allow`)
  const authorization = `Basic ${Buffer.from(`${user}:${decoded(password)}`).toString('base64')}`
  return { ...hop, url, headers: { ...hop.headers, authorization } }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text // A literal %.
  }
}
