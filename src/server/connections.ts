import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Newcomers } from '../access/newcomers.ts'
import { ERRORS, type ErrorCode } from '../task/errors.ts'

/** How long a client may take: to send its headers, and to send everything. Slower ones would hold connections. */
export interface Patience {
  headersMs: number
  requestMs: number
  /** How often that is looked at. */
  lookMs: number
  /** How often an event stream says that it is still there. */
  heartbeatMs: number
}

export const PATIENCE: Patience = { headersMs: 10_000, requestMs: 60_000, lookMs: 1_000, heartbeatMs: 15_000 }
const HEADERS_BYTES_MAX = 16 * 1024

/** For Node's server, plain or with TLS. */
export function connectionOptions({ headersMs, requestMs, lookMs }: Patience) {
  return {
    headersTimeout: headersMs,
    requestTimeout: requestMs,
    connectionsCheckingInterval: lookMs,
    maxHeaderSize: HEADERS_BYTES_MAX,
    handshakeTimeout: headersMs,
  }
}

/**
 * Which requests leave HTTP: WebSockets that open `path`, with or without the path of a proxy before it, while
 * something listens. Many clients offer another protocol by the way (Java, curl, some proxies: HTTP/2) and expect an
 * ordinary answer.
 */
export function upgradesAt(path: string | null, basePath: string) {
  const paths = path === null ? [] : [path, basePath + path]
  return function (this: Server, { method, url, headers }: IncomingMessage): boolean {
    if (this.listenerCount('upgrade') === 0 || method !== 'GET' || !paths.includes(url?.split('?')[0] ?? ''))
      return false
    return headers.upgrade?.toLowerCase() === 'websocket'
  }
}

const REFUSALS: Readonly<Record<string, ErrorCode>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
  HPE_HEADER_OVERFLOW: 'headers_too_large',
}

/** What cannot even be read as a request is answered as every other refusal is, and the connection ends. */
export function answerUnreadable(error: Error & { code?: string }, socket: Socket): void {
  // Where a request was read and its answer is under way, this one would be taken for that.
  const { _httpMessage: answer, secureConnecting } = socket as Socket & {
    _httpMessage?: ServerResponse
    secureConnecting?: boolean
  }
  // Before its TLS handshake has ended nothing can be written, and a socket that waits for that would never close.
  if (secureConnecting) return void socket.destroy()
  if (!socket.writable || answer?.req.complete || error.code === 'ECONNRESET') return void socket.destroy()
  const code = REFUSALS[error.code ?? ''] ?? 'invalid_request'
  const [status, title, remedy] = ERRORS[code]
  const detail = code === 'invalid_request' ? 'invalid HTTP request' : remedy
  const body = JSON.stringify({ type: `urn:xqueue:problem:${code}`, title, status, detail, code })
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}

/** Keeps count of who has connected and not shown who they are; when the server closes, it waits for none of them. */
export function watchConnections(server: FastifyInstance, newcomers: Newcomers, hasTls: boolean): void {
  server.server.on('connection', (socket: Socket) => newcomers.add(socket, hasTls))
  if (hasTls) server.server.on('secureConnection', (socket: Socket) => newcomers.secured(socket))
  server.addHook('onRequest', (request, _reply, done) => {
    newcomers.asked(request.raw.socket)
    done()
  })
  server.addHook('preClose', async () => newcomers.closeUnused())
}

/** After who calls is known. */
export function admitKnown(server: FastifyInstance, newcomers: Newcomers): void {
  const admitted = new WeakSet<Socket>()
  server.addHook('onRequest', ({ principal, raw: { socket } }, _reply, done) => {
    if (principal !== null && !admitted.has(socket)) {
      admitted.add(socket)
      newcomers.admit(socket)
    }
    done()
  })
}
