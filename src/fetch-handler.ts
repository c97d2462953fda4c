import { once } from 'node:events'
import { createServer, type IncomingMessage, request as requestOver } from 'node:http'
import { type Duplex, duplexPair, Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import { type Handle, READ_BEFORE } from './mount.ts'

/** What a request of the Fetch API does not contain. */
export interface FetchCaller {
  /** IP address of the client, for the audit log. */
  remoteAddress?: string | undefined
}

/** Answers requests of the Fetch API: of Hono, route handlers of Next.js, and others. */
export type FetchHandle = (request: Request, caller?: FetchCaller) => Promise<Response>

/** Of a connection, not of a message. */
const HOP_BY_HOP = new Set(['connection', 'expect', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade'])
const WITHOUT_BODY = new Set([204, 205, 304])

/**
 * The requests go through Node's HTTP over a pair of streams in memory. So streams, slow readers, limits on bodies and
 * disconnects behave as on a socket, without a port.
 */
export function fetchHandleOf(handle: Handle): FetchHandle {
  const server = createServer(handle)
  return async (request, { remoteAddress } = {}) => {
    if (request.bodyUsed || request.body?.locked) {
      return new Response(READ_BEFORE.body, { status: READ_BEFORE.status, headers: READ_BEFORE.headers })
    }
    request.signal.throwIfAborted()
    const url = new URL(request.url)
    const near = connectionTo(server, { remoteAddress, encrypted: url.protocol === 'https:' })
    endWith(near, request)
    try {
      const [answer] = await answerOver(near, request, url)
      return responseOf(answer, near, request.method)
    } catch (error) {
      near.destroy()
      throw request.signal.aborted ? request.signal.reason : error
    }
  }
}

function answerOver(near: Duplex, request: Request, { host, pathname, search }: URL): Promise<[IncomingMessage]> {
  const headers: Record<string, string> = { host, ...Object.fromEntries(endToEnd(request.headers)) }
  const { 'content-length': length, ...others } = headers
  const { method } = request
  const call = requestOver({
    method,
    path: `${pathname}${search}`,
    headers: request.body ? headers : others,
    createConnection: () => near,
  })
  // After the answer has begun, its body reports errors.
  call.on('error', () => undefined)
  const answered = once(call, 'response') as Promise<[IncomingMessage]>
  if (request.body) {
    const body = Readable.fromWeb(request.body as ReadableStream)
    const exact = length === undefined ? body : Readable.from(withLength(Number(length), body))
    exact.once('error', (error) => near.destroy(error))
    // Also if a refusal arrives while the rest of the body is still being sent.
    near.once('close', () => body.destroy())
    exact.pipe(call)
  } else call.end()
  return answered
}

/** The header is of another body if something before has changed the body. The server would wait for the rest. */
async function* withLength(length: number, body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.byteLength
    if (bytes > length) break
    yield chunk
  }
  if (bytes !== length) throw new TypeError(`Content-Length is ${length}, but the body has another length`)
}

/** The connection refers to the request: Node forgets to abort a request that nothing refers to. */
function endWith(near: Duplex, request: Request): void {
  const abort = () => near.destroy(new Error('the caller aborted the request', { cause: request.signal.reason }))
  request.signal.addEventListener('abort', abort)
  near.once('close', () => request.signal.removeEventListener('abort', abort))
}

function responseOf(answer: IncomingMessage, near: Duplex, method: string): Response {
  // Also ends a body that is still being sent.
  answer.once('close', () => near.destroy())
  const { statusCode: status = 500, statusMessage: statusText = '', rawHeaders } = answer
  const pairs = rawHeaders.flatMap((name, index) => (index % 2 ? [] : [[name, rawHeaders[index + 1]!] as const]))
  const headers = new Headers()
  for (const [name, value] of endToEnd(pairs)) headers.append(name, value)
  const isEmpty = method === 'HEAD' || WITHOUT_BODY.has(status)
  if (isEmpty) answer.resume()
  return new Response(isEmpty ? null : (Readable.toWeb(answer) as globalThis.ReadableStream), {
    status,
    statusText,
    headers,
  })
}

function endToEnd(pairs: Iterable<readonly [string, string]>): (readonly [string, string])[] {
  return [...pairs].filter(([name]) => !HOP_BY_HOP.has(name.toLowerCase()))
}

/** @param peer what the server reads from a socket */
function connectionTo(server: ReturnType<typeof createServer>, peer: object): Duplex {
  const [near, far] = duplexPair()
  // A pair does not pass on that one of its ends was destroyed.
  near.once('close', () => far.destroy())
  far.once('close', () => {
    if (!far.writableFinished) near.destroy(new Error('XQueue closed the connection'))
  })
  server.emit('connection', Object.assign(far, peer))
  return near
}
