import { once } from 'node:events'
import { createServer as createHttp, type RequestListener, type Server } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { XQueueError } from '../task/errors.ts'
import { linger } from './lingering.ts'

const RETRY_AFTER_S = 1
/** How long a connection that was accepted may take to make its call. */
const CALL_MS_MAX = 200

/**
 * Answers instead of the server while the process starts, perhaps waiting for its store: liveness is ok, and other
 * calls must be repeated.
 */
export class Starting {
  readonly #server: Server

  static async listen(
    { host, port }: { host: string; port: number },
    pair: { cert: Buffer; key: Buffer } | null,
  ): Promise<Starting> {
    const server = pair ? createHttps(pair, answer) : createHttp(answer)
    server.listen(port, host)
    await once(server, 'listening')
    return new Starting(server)
  }

  private constructor(server: Server) {
    this.#server = server
  }

  /** Answers the calls of the connections that it has accepted. */
  async close(): Promise<void> {
    if (!this.#server.listening) return
    const closed = once(this.#server, 'close')
    this.#server.close()
    const end = setTimeout(() => this.#server.closeAllConnections(), CALL_MS_MAX)
    await closed
    clearTimeout(end)
  }
}

const answer: RequestListener = (request, response) => {
  const { url = '' } = request
  linger(request, response)
  const json = (status: number, type: string, body: object) => {
    const headers = { 'Content-Type': type, 'Cache-Control': 'no-store', 'Retry-After': String(RETRY_AFTER_S) }
    response.writeHead(status, { ...headers, Connection: 'close' }).end(JSON.stringify(body))
  }
  if (url.split('?', 1)[0] === '/api/v1/live') {
    json(200, 'application/json', { status: 'alive' })
    return
  }
  const detail = 'the process is starting: repeat the call in a moment'
  const error = new XQueueError('engine_unavailable', detail, { retry_after: RETRY_AFTER_S })
  json(error.status, 'application/problem+json', {
    type: 'about:blank',
    title: 'Engine unavailable',
    status: error.status,
    detail,
    code: error.code,
    retry_after: RETRY_AFTER_S,
  })
}
