import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import type { Access } from '../access/access.ts'
import type { AuditDetails, Audited, AuditLog } from '../access/audit.ts'
import {
  ANYONE,
  may,
  notAccepted,
  notAllowed,
  notForTenants,
  notSignedIn,
  type Principal,
  type RouteScope,
} from '../access/principal.ts'
import { countsSession, isOwnOrigin, sessionOf } from '../access/session-cookie.ts'
import { XQueueError } from '../task/errors.ts'
import { taskIdOf } from '../task/lease-token.ts'
import { toXQueueError } from './problems.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** All routes: `GET /api/v1/tasks` → `read`. */
    routeScopes: Map<string, RouteScope>
  }
  interface FastifyRequest {
    /** The caller; null if unknown: then only open routes answer. */
    principal: Principal | null
    /** Details of the change for the audit log. */
    audited: AuditDetails | null
  }
  interface FastifyContextConfig {
    scope?: RouteScope
    /** Not relevant for the audit log. */
    quiet?: boolean
    /** Concerns the whole server: refused to keys with bounds. */
    whole?: boolean
  }
}

export interface GuardOptions {
  /** Null: no access control, every caller has full access. */
  access: Access | null
  /** With access control. */
  audit: AuditLog | null
  /** Whether a Host header names this server. */
  servesHost: (host: string | undefined) => boolean
  /** Other sites whose pages may call the API. */
  origins: readonly string[]
}

const BEARER = /^Bearer +([\w~+/.=-]+) *$/i
/** Routes of plugins, which cannot name a scope themselves. */
const OPEN_BY_PLUGINS = /^(\/docs(\/|$)|\*$)/

/**
 * The only place that decides about access. Each route names its scope; a route without one cannot be registered. A
 * request passes these checks in order: origin, identity, scope and bounds, rate. Changes are written to the audit log.
 */
export function guard(server: FastifyInstance, { access, audit, servesHost, origins }: GuardOptions): void {
  const scopes = new Map<string, RouteScope>()
  server.decorate('routeScopes', scopes)
  server.decorateRequest('principal', null)
  server.decorateRequest('audited', null)
  server.addHook('onRoute', (route: RouteOptions) => {
    if (OPEN_BY_PLUGINS.test(route.url)) route.config = { ...route.config, scope: 'open' }
    if (!route.config?.scope) throw new Error(`the route ${route.method} ${route.url} names no scope`)
    scopes.set(`${route.method} ${route.url}`, route.config.scope)
  })
  server.addHook('onRequest', (request, _reply, done) => {
    try {
      if (!servesHost(request.headers.host)) throw strangeHost(request)
      refuseOtherSites(request, origins)
      const known = access ? recalled(access, request) : ANYONE
      if (access && !known) return void admit(access, request).then(() => done(), done)
      letIn(known, request)
      done()
    } catch (error) {
      done(error as Error)
    }
  })
  if (audit) writeAudits(server, audit)
}

/**
 * Browsers send the origin of a change. Without this check, any site could make the browser of a logged-in user, or of
 * a user with access to a server without access control, change data here.
 */
function refuseOtherSites({ method, headers, is404 }: FastifyRequest, origins: readonly string[]): void {
  if (method === 'GET' || method === 'HEAD' || is404) return
  const { origin, host } = headers
  if (origin === undefined ? headers['sec-fetch-site'] !== 'cross-site' : isOwnOrigin(origin, host)) return
  if (origin !== undefined && origins.includes(origin)) return
  const detail = `pages of ${origin ?? 'another site'} cannot change data here: allow their origin with --cors-origins`
  throw new XQueueError('cross_site', detail)
}

function strangeHost({ headers: { host } }: FastifyRequest): XQueueError {
  const remedy = 'start with --auth, or with --insecure if a proxy in front decides about access'
  return new XQueueError('cross_site', `the host ${host} is refused without access control: ${remedy}`)
}

async function admit(access: Access, request: FastifyRequest): Promise<void> {
  if (request.is404) return
  const scope = request.routeOptions.config.scope!
  const principal = await callerOf(access, request).catch((error: unknown) => {
    // An open call is answered as for an unknown caller: the login must work when a session has ended, and health be
    // reported while the store is unavailable. Only a failed log-out must not look successful.
    const isRefused = error instanceof XQueueError && error.status === 401
    if (scope !== 'open' || (!isRefused && request.method === 'DELETE')) throw error
    return null
  })
  letIn(principal, request)
  if (!principal || scope === 'open') return
  await access.spend(principal)
}

/** Most calls have a recently checked key and need no wait. */
function recalled(access: Access, { headers: { authorization }, is404 }: FastifyRequest): Principal | null {
  if (authorization === undefined || is404) return null
  const principal = authorization.startsWith('Bearer ') ? access.recall(authorization.slice('Bearer '.length)) : null
  return principal?.rate ? null : principal
}

/** @throws XQueueError if the caller may not call this route; the caller is still recorded for the audit log */
function letIn(principal: Principal | null, request: FastifyRequest): void {
  const { scope, whole } = request.routeOptions.config
  request.principal = principal
  if (!may(principal, scope!)) throw principal ? notAllowed(principal, scope!) : notSignedIn()
  if (principal?.bounds && whole) throw notForTenants(principal)
}

async function callerOf(access: Access, { headers, query, routeOptions }: FastifyRequest): Promise<Principal | null> {
  const { authorization } = headers
  if (authorization !== undefined) {
    const token = BEARER.exec(authorization)?.[1]
    if (token === undefined) throw notAccepted('the Authorization header must be `Bearer KEY`')
    return access.authenticate(token)
  }
  const inUrl = (query as { access_token?: unknown }).access_token
  if (typeof inUrl === 'string' && routeOptions.config.scope === 'listen') {
    const principal = await access.authenticate(inUrl)
    if (principal.interests) return principal
    throw notAccepted(
      'a URL can contain only a subscription token, because URLs are logged: send keys in the Authorization header',
    )
  }
  const session = countsSession(headers) ? sessionOf(headers.cookie) : null
  return session === null ? null : access.bySession(session)
}

/**
 * The line is written when the answer is known, before it is sent. For a client that has disconnected meanwhile,
 * `onResponse` would never run.
 */
function writeAudits(server: FastifyInstance, audit: AuditLog): void {
  const whenWritten = withOthers(() => audit.flush())
  server.addHook('onError', (request, reply, error, done) => {
    const { status } = toXQueueError(error)
    const { authorization, cookie } = request.headers
    // A call without credentials is not logged as refused; a login has its key in the body.
    const isTried = authorization !== undefined || sessionOf(cookie) !== null || request.principal !== null
    const isLogin = request.routeOptions.config.scope === 'open' && request.method === 'POST'
    if (status === 403 || (status === 401 && (isTried || isLogin || hasTokenInUrl(request)))) {
      audit.refused(request.principal, auditedOf(request, reply, status), error.message)
    }
    done()
  })
  server.addHook('onSend', (request, reply, _payload, done) => {
    const { method, principal } = request
    const { statusCode: status } = reply
    const isRead = method === 'GET' || method === 'HEAD' || method === 'OPTIONS'
    // After an internal error, the result of the change is unknown.
    const isChange = !isRead && (status < 400 || status >= 500)
    if (!isChange || principal === null) return done()
    const { routeOptions } = request // A getter that creates a new object.
    if (routeOptions.config.quiet) return done()
    audit.changed(principal, auditedOf(request, reply, status, routeOptions.url))
    whenWritten(done) // The line is written before the answer.
  })
}

/** Calls back after `before`, once for all calls that are answered in the same tick. */
function withOthers(before: () => void): (call: () => void) => void {
  let waiting: (() => void)[] = []
  const later = (call: () => void) => {
    if (waiting.push(call) === 1) process.nextTick(callAll)
  }
  const callAll = () => {
    const due = waiting
    waiting = []
    let called = 0
    try {
      before()
    } finally {
      try {
        while (called < due.length) due[called++]!()
      } finally {
        // One that throws keeps no other answer back.
        for (const call of due.slice(called)) later(call)
      }
    }
  }
  return later
}

function hasTokenInUrl({ query }: FastifyRequest): boolean {
  return (query as { access_token?: unknown } | undefined)?.access_token !== undefined
}

function auditedOf(
  request: FastifyRequest,
  reply: FastifyReply,
  status: number,
  url = request.routeOptions.url,
): Audited {
  const { method, ip, params, body, audited } = request
  const { id, type, batch, lease } = (params ?? NOTHING) as Partial<Record<string, string>>
  const target = id ?? type ?? batch ?? (lease ? taskIdOf(lease) : null) ?? madeBy(reply) ?? typeIn(body)
  return { action: `${method} ${url}`, target, status, ip, details: audited }
}

const NOTHING = {}

/** The id of a created resource: the last part of its URL. */
function madeBy(reply: FastifyReply): string | null {
  const location = reply.getHeader('location')
  return typeof location === 'string' ? location.slice(location.lastIndexOf('/') + 1) : null
}

function typeIn(body: unknown): string | null {
  const { task_type, type } = (body ?? NOTHING) as Record<string, unknown>
  return ([task_type, type].find((name) => typeof name === 'string') as string | undefined) ?? null
}
