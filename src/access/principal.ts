import { type CallRate, includes, type Scope } from '../task/api-key.ts'
import type { Bounds } from '../task/bounds.ts'
import { XQueueError } from '../task/errors.ts'

/**
 * What a route asks of its caller: a scope; `listen`, which `read` has and a subscription token too, for what it was
 * made for; or nothing (`open`). What needs `read` also answers `view`, with less: see `Sight`.
 */
export type RouteScope = Scope | 'listen' | 'open'

/** What a subscription token lets its holder listen to. */
export type Interests = ({ taskIds: readonly string[] } | { types: readonly string[] }) & {
  /** Made by a key that does not see payloads, results and errors. */
  isView?: boolean
}

/** Who calls, as far as the rest of the server needs to know. */
export interface Principal {
  /** For the audit log; not secret. */
  id: string
  name: string
  scopes: readonly Scope[]
  rate: CallRate | null
  /** The key or session with which this ends; null for what an issuer of tokens vouches for. */
  keyId: string | null
  expiresAt: number | null
  /** Of a subscription token: when it was made (ms). */
  issuedAt?: number
  /** Of a subscription token. */
  interests: Interests | null
  /** The tenant's part of the queue: nothing else exists for this caller. Null: all of it. */
  bounds: Bounds | null
}

/** How much of the queue a caller sees: which part, and whether with payloads, results and errors. */
export interface Sight {
  bounds: Bounds | null
  isFull: boolean
}

export function sightOf({ bounds, scopes, interests }: Principal): Sight {
  return { bounds, isFull: interests ? !interests.isView : includes(scopes, 'read') }
}

/** Where there is no access control. */
export const ANYONE: Principal = {
  id: 'anyone',
  name: 'anyone',
  scopes: ['admin'],
  rate: null,
  keyId: null,
  expiresAt: null,
  interests: null,
  bounds: null,
}

export function may(principal: Principal | null, scope: RouteScope): boolean {
  if (scope === 'open') return true
  if (principal === null) return false
  if (scope === 'listen') return principal.interests !== null || includes(principal.scopes, 'view')
  return includes(principal.scopes, scope === 'read' ? 'view' : scope)
}

const REALM = 'Bearer realm="xqueue"'

export function notSignedIn(): XQueueError {
  const detail =
    'this call needs a key: send Authorization: Bearer KEY (create one with `xqueue keys create NAME --scopes …`)'
  return new XQueueError('unauthorized', detail, { challenge: REALM })
}

/** @param why without the credential itself, which must not come back in an answer or a log */
export function notAccepted(why: string): XQueueError {
  return new XQueueError('unauthorized', why, { challenge: `${REALM}, error="invalid_token"` })
}

export function notForTenants({ name }: Principal): XQueueError {
  const detail = `this call concerns the whole server, but ${name} is bound to a part of it: use a key without bounds`
  return new XQueueError('forbidden', detail)
}

export function notAllowed({ name, scopes }: Principal, scope: RouteScope): XQueueError {
  const required = scope === 'listen' ? 'read' : scope
  const has = scopes.length > 0 ? `has ${scopes.join(', ')}` : 'has no scope'
  const details = { required_scope: required, scopes }
  const challenge = `${REALM}, error="insufficient_scope", scope="${required}"`
  const detail = `this call needs the scope ${required}, but ${name} ${has}: use another key`
  return new XQueueError('forbidden', detail, { ...details, challenge })
}
