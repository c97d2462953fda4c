import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Newcomers } from '../access/newcomers.ts'
import { ERRORS, type ErrorCode, XQueueError } from '../task/errors.ts'
import { endUnparsed } from './lingering.ts'

/** Time-outs for the headers and for the whole request, because slow clients would hold connections. */
export interface Patience {
  headersMs: number
  requestMs: number
  /** Interval of this check. */
  lookMs: number
  /** Interval of heartbeats on event streams. */
  heartbeatMs: number
  /** A client of an event stream that reads less than a piece in this time is disconnected. */
  drainMs: number
}

export const PATIENCE: Patience = {
  headersMs: 10_000,
  requestMs: 60_000,
  lookMs: 1_000,
  heartbeatMs: 15_000,
  drainMs: 30_000,
}
const HEADERS_BYTES_MAX = 16 * 1024

/** For Node's server, plain or with TLS. */
export function connectionOptions({ headersMs, requestMs, lookMs }: Patience) {
  return {
    headersTimeout: headersMs,
    requestTimeout: requestMs,
    connectionsCheckingInterval: lookMs,
    maxHeaderSize: HEADERS_BYTES_MAX,
    handshakeTimeout: headersMs,
    ALPNProtocols: ['http/1.1', 'http/1.0'], // By itself, Node refuses clients of TLS that offer only the second.
    requireHostHeader: false, // Node's refusal is no problem document: see requireHost.
  }
}

const ORIGIN = /^https?:\/\/([^/?#]*)/i

/** A URL may be absolute; its host counts then in place of the header (RFC 9112, section 3.2.2). */
export function useOriginForm(request: IncomingMessage): void {
  const { url = '/', headers } = request
  const [origin, host] = ORIGIN.exec(url) ?? []
  if (origin === undefined || headers.host === undefined) return
  const rest = url.slice(origin.length)
  request.url = rest.startsWith('/') ? rest : `/${rest}`
  headers.host = host!
}

/** Refuses requests without a host, and answers those with an unknown expectation as others. */
export function requireHost(server: FastifyInstance): void {
  server.addHook('onRequest', ({ raw: { httpVersion, headers } }, reply, done) => {
    if (headers.host !== undefined || httpVersion === '1.0') return done()
    reply.header('Connection', 'close')
    done(new XQueueError('invalid_request', 'the header Host is missing'))
  })
  const http = server.server
  http.on('checkExpectation', (request, response) => http.emit('request', request, response))
}

/**
 * Requests that upgrade: WebSockets at `path`, with or without the path of a proxy, while there is a listener. Many
 * clients offer another protocol (Java, curl, some proxies: HTTP/2) and expect an ordinary answer.
 */
export function upgradesAt(path: string | null, basePath: string) {
  const paths = path === null ? [] : [path, basePath + path]
  return function (this: Server, request: IncomingMessage): boolean {
    useOriginForm(request)
    const { method, url, headers } = request
    if (this.listenerCount('upgrade') === 0 || method !== 'GET' || !paths.includes(url?.split('?')[0] ?? ''))
      return false
    return headers.upgrade?.toLowerCase() === 'websocket'
  }
}

const REFUSALS: Readonly<Record<string, ErrorCode>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
  HPE_HEADER_OVERFLOW: 'headers_too_large',
}

/** An unparsable request gets an answer like other refusals, and the connection is closed. */
export function answerUnreadable(error: Error & { code?: string }, socket: Socket): void {
  // While an answer to an earlier request is pending, this text would be taken for that answer.
  const { _httpMessage: answer, secureConnecting } = socket as Socket & {
    _httpMessage?: ServerResponse
    secureConnecting?: boolean
  }
  // Before the TLS handshake has ended, nothing can be written, and a waiting socket would never close.
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
  const text = `${head.join('\r\n')}\r\n\r\n${body}`
  if (code === 'request_timeout') socket.end(text)
  else endUnparsed(socket, text)
}

/** Counts connections of unknown clients; closing the server does not wait for them. */
export function watchConnections(server: FastifyInstance, newcomers: Newcomers, hasTls: boolean): void {
  server.server.on('connection', (socket: Socket) => newcomers.add(socket, hasTls))
  if (hasTls) server.server.on('secureConnection', (socket: Socket) => newcomers.secured(socket))
  server.addHook('onRequest', (request, _reply, done) => {
    newcomers.asked(request.raw.socket)
    done()
  })
  server.addHook('preClose', async () => newcomers.closeUnused())
}

/** Runs after authentication. */
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
