import type { IncomingMessage, ServerResponse } from 'node:http'
import { ERRORS } from './task/errors.ts'

/** Answers requests of a Node.js server, also of Express, Next.js and others that pass its requests on. */
export type Handle = (request: IncomingMessage, response: ServerResponse) => void

/** The answer if the body cannot be read again, because a parser before this handler has read it. */
export const READ_BEFORE = readBefore()

/** The handle, for requests whose body may have been read. */
export function handleOf(handle: Handle): Handle {
  return (request, response) => {
    if (isRead(request)) response.writeHead(READ_BEFORE.status, READ_BEFORE.headers).end(READ_BEFORE.body)
    else handle(request, response)
  }
}

function isRead({ headers, readableEnded }: IncomingMessage): boolean {
  const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
  return hasBody && readableEnded
}

function readBefore() {
  const [status, title] = ERRORS.invalid_config
  const detail = 'the body was read before XQueue: mount its handler before body parsers such as express.json()'
  const problem = { type: 'urn:xqueue:problem:invalid_config', title, status, detail, code: 'invalid_config' }
  return { status, headers: { 'Content-Type': 'application/problem+json' }, body: JSON.stringify(problem) }
}
