import type { FastifyRequest } from 'fastify'
import { notAccepted } from '../access/principal.ts'
import { sessionCookie } from '../access/session-cookie.ts'
import { SCOPES } from '../task/api-key.ts'
import { Type } from '../task/json-schema.ts'
import { isoTime } from '../task/task-json.ts'
import { orNull, timeOrNull, titled } from './fields.ts'
import type { Route, ServerContext } from './route.ts'

const KEY_CHARS_MAX = 8_192

const Session = titled(
  'Session',
  Type.Object({
    access_control: Type.Boolean(),
    name: orNull('string'),
    scopes: Type.Array(Type.Enum([...SCOPES], { title: 'Scope' })),
    expires_at: timeOrNull('Time of expiry'),
    login_url: Type.Optional(
      orNull('string', { description: 'URL for the login with the identity provider, if one is configured' }),
    ),
  }),
)

/** Login with a key, for pages: the user enters the key once and gets a cookie. */
export function sessionRoutes({ access, identity, hasTls, basePath }: ServerContext): Route[] {
  // A proxy may terminate TLS: then the page's own URL shows it.
  const isSecure = ({ headers, protocol }: FastifyRequest) =>
    hasTls || protocol === 'https' || headers.origin?.startsWith('https:') === true
  return [
    {
      method: 'GET',
      url: '/api/v1/session',
      scope: 'open',
      summary: 'Get the current caller and its rights',
      answers: { 200: Session },
      handler: async ({ principal }) => ({
        access_control: access !== null,
        name: access && principal ? principal.name : null,
        scopes: access === null ? SCOPES : (principal?.scopes ?? []),
        expires_at: isoTime(principal?.expiresAt ?? null),
        // Relative to the dashboard, so it is valid below any path of a proxy.
        login_url: access && identity ? 'login' : null,
      }),
    },
    {
      method: 'POST',
      url: '/api/v1/session',
      scope: 'open',
      summary: 'Log in with a key; sets a cookie',
      body: Type.Object(
        { key: Type.String({ minLength: 1, maxLength: KEY_CHARS_MAX, description: 'An API key or a token (JWT)' }) },
        { additionalProperties: false },
      ),
      answers: { 200: Session },
      refusals: ['unauthorized', 'too_many_calls'],
      handler: async (request, reply) => {
        if (!access) return { access_control: false, name: null, scopes: SCOPES, expires_at: null }
        const { key } = request.body as { key: string }
        const principal = await access.authenticate(key.trim())
        if (principal.interests) throw notAccepted('a subscription token cannot open a session: log in with a key')
        const { token, expiresAt } = await access.openSession(principal)
        request.principal = principal
        const seconds = Math.floor((expiresAt - Date.now()) / 1_000)
        reply.header('Set-Cookie', sessionCookie(token, seconds, isSecure(request), basePath))
        const { name, scopes } = principal
        return { access_control: true, name, scopes, expires_at: isoTime(expiresAt) }
      },
    },
    {
      method: 'DELETE',
      url: '/api/v1/session',
      scope: 'open',
      summary: 'Log out: ends the session in all processes',
      answers: { 204: Type.Null({ description: 'Logged out' }) },
      handler: async (request, reply) => {
        const { principal } = request
        // A key in the Authorization header is not a session and stays valid.
        if (access && principal && request.headers.authorization === undefined) await access.closeSession(principal)
        reply.header('Set-Cookie', sessionCookie('', 0, isSecure(request), basePath))
        return reply.status(204).send()
      },
    },
  ]
}
