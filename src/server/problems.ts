import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { ERRORS, type ErrorCode, type ErrorDetails, type FieldError, XQueueError } from '../task/errors.ts'

/** An answer names no more mistakes than this. */
const ERRORS_MAX = 100

/** What Fastify itself refuses, as the error that our callers know. */
const FASTIFY_CODES: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
}

/** Every error of the server leaves as RFC 9457 `application/problem+json`. */
export function answerProblems(server: FastifyInstance): void {
  server.setErrorHandler((error: FastifyError, request, reply) => {
    const known = toXQueueError(error)
    if (known.status >= 500) request.log.error({ err: error }, 'a request failed')
    return sendProblem(reply, request, known)
  })
  server.setNotFoundHandler((request, reply) => {
    const detail = `there is no ${request.method} ${request.url.split('?')[0]}: see /docs for every call`
    return sendProblem(reply, request, new XQueueError('not_found', detail))
  })
}

export function sendProblem(reply: FastifyReply, request: FastifyRequest, error: XQueueError): FastifyReply {
  const { code, details, message, status } = error
  const { retry_after, challenge, ...members }: ErrorDetails = details
  if (challenge !== undefined) reply.header('WWW-Authenticate', challenge)
  if (retry_after !== undefined || status === 503) reply.header('Retry-After', String(retry_after ?? 1))
  const problem = {
    type: `urn:xqueue:problem:${code}`,
    title: ERRORS[code][1],
    status,
    detail: code === 'internal' ? `${ERRORS.internal[2]} (${request.id})` : message,
    code,
    request_id: request.id,
    ...members,
  }
  return reply.status(status).type('application/problem+json').send(JSON.stringify(problem))
}

function toXQueueError(error: FastifyError): XQueueError {
  if (error instanceof XQueueError) return error
  if (error.validation) {
    const errors = error.validation
      .slice(0, ERRORS_MAX)
      .map(({ instancePath, message = 'is not valid', params }): FieldError => {
        const at = instancePath
          .slice(1)
          .replace(/\/(\d+)(?=\/|$)/g, '[$1]')
          .replaceAll('/', '.')
        const { additionalProperty, missingProperty } = params as Record<string, string>
        const field = additionalProperty ?? missingProperty
        const told = additionalProperty ? 'is not a known field' : missingProperty ? 'is required' : message
        return { path: [at, field].filter(Boolean).join('.'), message: told }
      })
    const first = errors[0]
    const detail = `${error.validationContext ?? 'request'}: ${first?.path || 'it'} ${first?.message}`
    return new XQueueError('invalid_request', detail, { errors })
  }
  const code = FASTIFY_CODES[error.code]
  if (code) return new XQueueError(code, error.message)
  const status = error.statusCode ?? 500
  if (status < 500) return new XQueueError('invalid_request', error.message)
  return new XQueueError('internal', error.message, {}, { cause: error })
}
