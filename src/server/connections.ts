import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { ERRORS, type ErrorCode } from '../task/errors.ts'

/** How long a client may take: to send its headers, and to send everything. Slower ones would hold connections. */
export interface Patience {
  headersMs: number
  requestMs: number
  /** How often that is looked at. */
  lookMs: number
}

export const PATIENCE: Patience = { headersMs: 10_000, requestMs: 60_000, lookMs: 1_000 }
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
 * Which requests leave HTTP: WebSockets that open `path`, while something listens. Many clients offer another protocol
 * by the way (Java, curl and some proxies: HTTP/2) and expect an ordinary answer.
 */
export function upgradesAt(path: string | null) {
  return function (this: Server, { method, url, headers }: IncomingMessage): boolean {
    if (this.listenerCount('upgrade') === 0 || method !== 'GET' || url?.split('?')[0] !== path) return false
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
  const { _httpMessage: answer } = socket as Socket & { _httpMessage?: ServerResponse }
  if (!socket.writable || answer?.req.complete || error.code === 'ECONNRESET') return void socket.destroy()
  const code = REFUSALS[error.code ?? ''] ?? 'invalid_request'
  const [status, title, remedy] = ERRORS[code]
  const detail = code === 'invalid_request' ? 'that is no HTTP request' : remedy
  const body = JSON.stringify({ type: `urn:xqueue:problem:${code}`, title, status, detail, code })
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}

/**
 * A connection over which nothing was asked yet (browsers open them ahead, or its TLS handshake has not ended) counts
 * as busy for Node, and would hold up the close for a minute. Told apart by their ends: with TLS, a request knows
 * another socket than the one that was connected.
 */
export function closeUnusedConnections(server: FastifyInstance): void {
  const unused = new Map<string, Socket>()
  const endOf = ({ remoteAddress, remotePort }: Socket) => `${remoteAddress} ${remotePort}`
  server.server.on('connection', (socket: Socket) => {
    const end = endOf(socket)
    unused.set(end, socket)
    socket.once('close', () => {
      if (unused.get(end) === socket) unused.delete(end)
    })
  })
  server.addHook('onRequest', (request, _reply, done) => {
    unused.delete(endOf(request.raw.socket))
    done()
  })
  server.addHook('preClose', async () => {
    for (const socket of unused.values()) socket.destroy()
  })
}
