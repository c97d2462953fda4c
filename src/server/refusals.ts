import { ERRORS, type ErrorCode } from '../task/errors.ts'
import { Type } from '../task/json-schema.ts'
import type { Route } from './route.ts'
import { isRefusable } from './shed.ts'

/** The refusals of calls, for the documentation, from the table of errors. */

export const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    code: Type.String({ description: 'Stable code for programs' }),
    request_id: Type.Optional(Type.String({ description: 'Id of this request in the log of the server' })),
    errors: Type.Optional(
      Type.Array(
        Type.Object(
          {
            path: Type.String({ description: 'Path of the field, such as `tasks[3].priority`' }),
            message: Type.String({ description: 'The error, and how to correct it' }),
          },
          { title: 'FieldError' },
        ),
        { description: 'The invalid fields' },
      ),
    ),
    registered_types: Type.Optional(Type.Array(Type.String(), { description: '`unknown_type`: the known types' })),
    task_id: Type.Optional(Type.String({ description: 'The task of the error' })),
    allow: Type.Optional(Type.Array(Type.String(), { description: '`method_not_allowed`: the allowed methods' })),
    required_scope: Type.Optional(Type.String({ description: '`forbidden`: the scope that the call needs' })),
    scopes: Type.Optional(Type.Array(Type.String(), { description: '`forbidden`: the scopes that the key has' })),
  },
  { $id: 'Problem' },
)

export const PROBLEM_EXAMPLE = {
  ...{ type: 'urn:xqueue:problem:invalid_request', title: ERRORS.invalid_request[1], status: 400 },
  ...{ detail: 'body: priority must be <= 9', code: 'invalid_request', request_id: 'req-1' },
  errors: [{ path: 'priority', message: 'must be <= 9' }],
}

/** Refusals that any call can return. */
const ANYWHERE: readonly ErrorCode[] = [
  ...(['invalid_request', 'cross_site', 'request_timeout', 'headers_too_large'] as const),
  ...(['internal', 'engine_unavailable', 'shutting_down'] as const),
]
const WITH_BODY: readonly ErrorCode[] = ['too_large', 'unsupported_media_type']
const WITH_SCOPE: readonly ErrorCode[] = ['unauthorized', 'forbidden', 'too_many_calls', 'issuer_unavailable']

const OF_LOAD: readonly ErrorCode[] = ['overloaded']

/** The refusals of a call, one answer per status, from the table of errors. */
export function refusalsOf({
  method,
  scope,
  vital,
  refusals = [],
}: Pick<Route, 'method' | 'scope' | 'vital' | 'refusals'>) {
  const atDoor = [
    ...(method === 'POST' || method === 'PATCH' ? WITH_BODY : []),
    ...(scope === 'open' ? [] : WITH_SCOPE),
    ...(isRefusable({ scope, vital: vital === true }) ? OF_LOAD : []),
  ]
  const codes = [...new Set([...ANYWHERE, ...atDoor, ...refusals])]
  const statuses = Map.groupBy(codes, (code) => ERRORS[code][0])
  return Object.fromEntries(
    [...statuses].map(([status, some]) => [
      status,
      {
        description: some.map((code) => `\`${code}\`: ${ERRORS[code][1]}`).join('; '),
        content: { 'application/problem+json': { schema: { $ref: 'Problem#' } } },
      },
    ]),
  )
}
