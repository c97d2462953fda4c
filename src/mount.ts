import type { IncomingMessage, ServerResponse } from 'node:http'
import { ERRORS } from './task/errors.ts'

/** Answers requests of a Node.js server, also of Express, Next.js and others that pass its requests on. */
export type Handle = (request: IncomingMessage, response: ServerResponse) => void

/** What Express adds to a request: the URL with the path of the mount, and a body that was read. */
interface Mounted extends IncomingMessage {
  originalUrl?: string
  body?: unknown
}

/** @param basePath the path below which requests are passed on, or '' */
export function handleOf(handle: Handle, basePath: string): Handle {
  return (request: Mounted, response) => {
    const { originalUrl, url = '/' } = request
    // The page refers to its files relatively.
    if ((originalUrl ?? url).split('?')[0] === basePath && basePath !== '') {
      response.writeHead(308, { Location: `${basePath}/` }).end()
    } else if (isRead(request)) refuseRead(response)
    else handle(request, response)
  }
}

/** A parser before this handler has read the body, so it cannot be read again. */
function isRead({ headers, readableEnded }: Mounted): boolean {
  const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
  return hasBody && readableEnded
}

function refuseRead(response: ServerResponse): void {
  const [status, title] = ERRORS.invalid_config
  const detail = 'the body was read before XQueue: mount its handler before body parsers such as express.json()'
  const body = { type: 'urn:xqueue:problem:invalid_config', title, status, detail, code: 'invalid_config' }
  response.writeHead(status, { 'Content-Type': 'application/problem+json' }).end(JSON.stringify(body))
}
