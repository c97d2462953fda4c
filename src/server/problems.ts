import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { withoutTokens } from '../access/masking.ts'
import { ERRORS, type ErrorCode, type ErrorDetails, type FieldError, XQueueError } from '../task/errors.ts'
import { FORMS } from '../task/task-input.ts'

/** An answer names no more mistakes than this. */
const ERRORS_MAX = 100

/** With the part of the schema that it comes of: Ajv is told to be verbose. */
type Validation = NonNullable<FastifyError['validation']>[number] & { schema?: unknown }

/** What Fastify itself refuses, as the error that our callers know. */
const FASTIFY_CODES: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
}

/** Every error of the server leaves as RFC 9457 `application/problem+json`. */
export function answerProblems(server: FastifyInstance): void {
  server.setErrorHandler((error: FastifyError, request, reply) => {
    // What is wrong with a call that there is not, nobody needs to know.
    if (request.is404 && !(error instanceof XQueueError)) return answerNoSuchCall(server, request, reply)
    const known = toXQueueError(error, request)
    if (known.status >= 500) request.log.error({ err: error }, 'a request failed')
    return sendProblem(reply, request, known)
  })
  server.setNotFoundHandler((request, reply) => answerNoSuchCall(server, request, reply))
}

function answerNoSuchCall(server: FastifyInstance, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const path = request.url.split('?')[0]!
  const allow = methodsOf(server, path)
  const isVersioned = methodsOf(server, `/api/v1${path}`).includes(request.method)
  const remedy = isVersioned ? `use /api/v1${withoutTokens(path)}` : 'see /docs for all calls'
  const detail = `${request.method} ${withoutTokens(path)} does not exist: ${remedy}`
  if (allow.length === 0) return sendProblem(reply, request, new XQueueError('not_found', detail))
  reply.header('Allow', allow.join(', '))
  return sendProblem(reply, request, new XQueueError('method_not_allowed', detail, { allow }))
}

export function sendProblem(reply: FastifyReply, request: FastifyRequest, error: XQueueError): FastifyReply {
  const { code, details, message, status } = error
  const { retry_after, challenge, ...members }: ErrorDetails = details
  if (challenge !== undefined) reply.header('WWW-Authenticate', challenge)
  // Closed while a client still sends, it may never read why. What it sends is let go by, as long as requests may take.
  if (code === 'too_large') reply.removeHeader('connection')
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

/** Those that a path can be asked with. The router looks for one method at a time, so the patterns are gone through. */
function methodsOf(server: FastifyInstance, path: string): string[] {
  const asked = path.split('/')
  const isOf = (pattern: string) => {
    const own = pattern.split('/')
    return own.length === asked.length && own.every((part, at) => part === asked[at] || (part[0] === ':' && asked[at]))
  }
  const routes = [...server.routeScopes.keys()].map((route) => route.split(' ') as [method: string, pattern: string])
  const named = routes.filter(([, pattern]) => pattern === path)
  return (named.length > 0 ? named : routes.filter(([, pattern]) => isOf(pattern))).map(([method]) => method)
}

export function toXQueueError(error: FastifyError, request?: FastifyRequest): XQueueError {
  if (error instanceof XQueueError) return error
  if (error.validation) {
    const errors = withoutAlternatives(meant(error.validation)).slice(0, ERRORS_MAX).map(fieldErrorOf)
    const first = errors[0]
    const detail = `${error.validationContext ?? 'request'}: ${first?.path || 'it'} ${first?.message}`
    return new XQueueError('invalid_request', detail, { errors })
  }
  const code = FASTIFY_CODES[error.code]
  if (code) return new XQueueError(code, refusalOf(code, error, request))
  const status = error.statusCode ?? 500
  if (status < 500) return new XQueueError('invalid_request', error.message)
  return new XQueueError('internal', error.message, {}, { cause: error })
}

/**
 * Where a value may be one of several forms, Ajv reports what each form misses, and then that none fits. A caller needs
 * one of these: what is wrong with the form that it chose, or which types there are.
 */
function withoutAlternatives(errors: readonly Validation[]): Validation[] {
  const kept: Validation[] = []
  for (const error of errors) {
    if (error.keyword !== 'oneOf') {
      kept.push(error)
      continue
    }
    const isOfForm = ({ instancePath, schemaPath }: Validation) =>
      instancePath.startsWith(error.instancePath) && schemaPath.startsWith(`${error.schemaPath}/`)
    const ofForms = kept.filter(isOfForm)
    if (ofForms.length === 0) {
      kept.push(error)
      continue
    }
    const isOtherType = ({ keyword, instancePath }: Validation) =>
      keyword === 'type' && instancePath === error.instancePath
    const types = ofForms.filter(isOtherType).flatMap(({ schema }) => schema)
    const ofChosen = ofForms.filter((each) => !isOtherType(each))
    const instead = ofChosen.length > 0 ? ofChosen : [{ ...error, keyword: 'type', schema: types }]
    kept.splice(0, kept.length, ...kept.filter((each) => !isOfForm(each)), ...instead)
  }
  return kept
}

/** A schema that forbids fields together is also broken by what is no object at all: that says nothing. */
function meant(errors: readonly Validation[]): readonly Validation[] {
  const mistyped = new Set(errors.filter(({ keyword }) => keyword === 'type').map(({ instancePath }) => instancePath))
  if (mistyped.size === 0) return errors
  return errors.filter(({ keyword, instancePath }) => keyword !== 'not' || !mistyped.has(instancePath))
}

/** Fastify says less than the request does. */
function refusalOf(code: ErrorCode, error: FastifyError, request: FastifyRequest | undefined): string {
  if (!request) return error.message
  if (code === 'too_large') {
    const bytesMax = request.routeOptions.bodyLimit
    return `the body has more than ${bytesMax} bytes: send less data, or store the data elsewhere`
  }
  const type = request.headers['content-type']?.slice(0, 80)
  const has = type ? `Content-Type ${type}` : 'no Content-Type'
  return `the body has ${has}: send JSON with Content-Type: application/json`
}

function fieldErrorOf(error: Validation): FieldError {
  const at = error.instancePath
    .slice(1)
    .replace(/\/(\d+)(?=\/|$)/g, '[$1]')
    .replaceAll('/', '.')
  const { field, told } = inOurWords(error)
  return { path: [at, field].filter(Boolean).join('.'), message: told ?? error.message ?? 'is not valid' }
}

/** Where Ajv tells of the schema instead of what was sent. */
function inOurWords({ keyword, params, schema }: Validation): {
  field?: string | undefined
  told?: string | undefined
} {
  const { additionalProperty, missingProperty, pattern, format } = params as Record<string, string>
  switch (keyword) {
    case 'additionalProperties':
      return { field: additionalProperty, told: 'is not a known field' }
    case 'required':
      return { field: missingProperty, told: 'is required' }
    case 'pattern':
    case 'format':
      return { told: FORMS[pattern ?? format ?? ''] }
    case 'not': {
      const [field, ...others] = (schema as { required?: string[] }).required ?? []
      const beside = others.length > 0 ? `together with ${others.join(' and ')}` : 'beside these values'
      return { field, told: `cannot be given ${beside}` }
    }
    case 'enum':
      return { told: `must be one of ${(schema as unknown[]).join(', ')}` }
    case 'uniqueItems': {
      const { i, j } = params as { i: number; j: number }
      return { told: `has equal entries at ${Math.min(i, j)} and ${Math.max(i, j)}: use each once` }
    }
    case 'type':
      return { told: Array.isArray(schema) ? `must be ${schema.join(' or ')}` : undefined }
    case 'anyOf':
      return { told: 'lacks one of the alternative fields' }
    default:
      return {}
  }
}
