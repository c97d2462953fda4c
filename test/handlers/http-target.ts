import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http'
import { afterAll, beforeAll, beforeEach, vi } from 'vitest'
import { portOf } from './run-handler.ts'

export interface Call {
  method: string
  url: string
  headers: IncomingHttpHeaders
  body: string
}

/** Two servers, hence two origins, that the http handler may call. They keep all calls. */
class Target {
  calls: Call[] = []
  answer: RequestListener = (_request, response) => response.end('fine')
  base = ''
  other = ''

  answers(status: number, headers: Record<string, string> = {}, body = 'because'): void {
    this.answer = (_request, response) => response.writeHead(status, headers).end(body)
  }

  /** The first answer redirects, the next ones do not. */
  redirects(status: number, location: string): void {
    this.answer = (_request, response) => {
      if (this.calls.length === 1) response.writeHead(status, { Location: location })
      response.end('arrived')
    }
  }
}

/** Starts the servers for the tests of a file. Private addresses are allowed. */
export function useTarget(): Target {
  const target = new Target()
  let servers: Server[] = []
  const listen = async () => {
    const server = createServer(async (request, response) => {
      let body = ''
      for await (const chunk of request) body += chunk
      target.calls.push({ method: request.method!, url: request.url!, headers: request.headers, body })
      target.answer(request, response)
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    return server
  }
  beforeAll(async () => {
    servers = await Promise.all([listen(), listen()])
    const [base, other] = servers.map((server) => `http://127.0.0.1:${portOf(server)}`)
    Object.assign(target, { base, other })
  })
  beforeEach(() => {
    vi.stubEnv('XQUEUE_HTTP_ALLOW_PRIVATE', 'true')
    target.calls = []
    target.answer = (_request, response) => response.end('fine')
  })
  afterAll(() => {
    for (const server of servers) {
      server.close()
      server.closeAllConnections()
    }
  })
  return target
}

/** The signature that a receiver computes from a call. */
export function signatureOf({ method, url, headers, body }: Call, secret: string): string {
  const text = [headers['x-xqueue-timestamp'], method, `http://${headers.host}${url}`, body].join('\n')
  return `v2=${createHmac('sha256', secret).update(text).digest('hex')}`
}
