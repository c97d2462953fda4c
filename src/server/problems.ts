import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { ERRORS, type ErrorCode, type ErrorDetails, type FieldError, shortPath, XQueueError } from '../task/errors.ts'
import { withoutTokens } from '../task/masking.ts'
import { FORMS } from '../task/task-input.ts'

/** Maximum number of errors in an answer. */
const ERRORS_MAX = 100
/** Of a name that may not be valid. */
const NAME_CHARS_MAX = 200

/** With its part of the schema, because Ajv is verbose. */
type Validation = NonNullable<FastifyError['validation']>[number] & { schema?: unknown }

/** Maps Fastify's own errors to our codes. */
const FASTIFY_CODES: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
}

/** Formats every error of the server as RFC 9457 `application/problem+json`. */
export function answerProblems(server: FastifyInstance): void {
  server.setErrorHandler((error: FastifyError, request, reply) => {
    // For an unknown route, other errors are not relevant.
    if (request.is404 && !(error instanceof XQueueError)) return answerNoSuchCall(server, request, reply)
    const known = withTypes(toXQueueError(error, request), request.body)
    // A caller who hangs up while an answer is being sent is no failure.
    const isFailure = known.status >= 500 && known.code !== 'overloaded' && error.code !== 'ERR_STREAM_PREMATURE_CLOSE'
    if (isFailure) request.log.error({ err: error }, 'a request failed')
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
  const { details, status } = error
  const { retry_after, challenge }: ErrorDetails = details
  if (challenge !== undefined) reply.header('WWW-Authenticate', challenge)
  if (retry_after !== undefined || status === 503) reply.header('Retry-After', String(retry_after ?? 1))
  return reply
    .status(status)
    .type('application/problem+json')
    .send(JSON.stringify(problemOf(error, request.id)))
}

/** The document of an error; without `requestId` for an item of a call that is answered otherwise. */
export function problemOf({ code, details, message, status }: XQueueError, requestId?: string) {
  const { retry_after: _, challenge: __, ...members }: ErrorDetails = details
  return {
    type: `urn:xqueue:problem:${code}`,
    title: ERRORS[code][1],
    status,
    detail: code === 'internal' ? `${ERRORS.internal[2]} (${requestId})` : message,
    code,
    request_id: requestId,
    ...members,
  }
}

/** The methods of a path. The router finds one method at a time, so all patterns are compared. */
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
    const context = error.validationContext ?? 'request'
    const detail = first?.path ? `${context}: ${first.path} ${first.message}` : `the ${context} ${first?.message}`
    return new XQueueError('invalid_request', detail, { errors })
  }
  const code = FASTIFY_CODES[error.code]
  if (code) return new XQueueError(code, refusalOf(code, error, request))
  const status = error.statusCode ?? 500
  if (status < 500) return new XQueueError('invalid_request', error.message)
  return new XQueueError('internal', error.message, {}, { cause: error })
}

/** A worker declares its handlers as a map, so their places in the list say little: errors name their types too. */
function withTypes(error: XQueueError, body: unknown): XQueueError {
  const { errors, ...details } = error.details
  const { handlers } = (body ?? {}) as { handlers?: { type?: unknown }[] }
  if (!errors || !Array.isArray(handlers)) return error
  const nameOf = (path: string) => {
    const type = handlers[Number(/^handlers\[(\d+)\]/.exec(path)?.[1])]?.type
    return typeof type === 'string' ? ` (type ${JSON.stringify(type.slice(0, NAME_CHARS_MAX))})` : ''
  }
  const named = errors.map(({ path, message }) => ({ path, message: message + nameOf(path) }))
  return new XQueueError(error.code, error.message + nameOf(errors[0]?.path ?? ''), { ...details, errors: named })
}

/**
 * For a value with several forms, Ajv reports the errors of each form and then that none matches. A caller needs one of
 * these: the errors of the form that it chose, or the allowed types.
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

/** Leaves out errors about exclusive fields in a value that is not an object, and the first of two of a wrong name. */
function meant(errors: readonly Validation[]): readonly Validation[] {
  const mistyped = new Set(errors.filter(({ keyword }) => keyword === 'type').map(({ instancePath }) => instancePath))
  return errors.filter((error) => {
    return !('propertyName' in error) && (error.keyword !== 'not' || !mistyped.has(error.instancePath))
  })
}

/** Fastify's message lacks details of the request. */
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
  return {
    path: shortPath([at, field].filter(Boolean).join('.')),
    message: told ?? error.message?.replace('must NOT', 'must not') ?? 'is not valid',
  }
}

/** A JSON type in words. */
function aValueOf(type: unknown): string {
  if (type === 'null') return 'null'
  return /^[aio]/.test(String(type)) ? `an ${type}` : `a ${type}`
}

/** Replaces messages of Ajv that describe the schema instead of the value. */
function inOurWords({ keyword, params, schema }: Validation): {
  field?: string | undefined
  told?: string | undefined
} {
  const { additionalProperty, missingProperty, propertyName, pattern, format } = params as Record<string, string>
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
    case 'propertyNames': {
      const { minLength, maxLength } = schema as { minLength: number; maxLength: number }
      const name = JSON.stringify(propertyName?.slice(0, NAME_CHARS_MAX).toWellFormed())
      return { told: `has the name ${name}: use ${minLength} to ${maxLength} characters` }
    }
    case 'uniqueItems': {
      const { i, j } = params as { i: number; j: number }
      return { told: `has equal entries at ${Math.min(i, j)} and ${Math.max(i, j)}: use each once` }
    }
    case 'type':
      return { told: `must be ${[schema].flat().map(aValueOf).join(' or ')}` }
    case 'anyOf':
      return { told: 'lacks one of the alternative fields' }
    default:
      return {}
  }
}
