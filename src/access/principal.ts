import { type CallRate, includes, SCOPES, type Scope } from '../task/api-key.ts'
import type { Bounds } from '../task/bounds.ts'
import { XQueueError } from '../task/errors.ts'

/**
 * The scope that a route requires: a scope of keys; `listen`, which `read` and subscription tokens have; or none
 * (`open`). Routes that need `read` also answer `view`, with less data: see `Sight`.
 */
export type RouteScope = Scope | 'listen' | 'open'

/** The subscriptions that a subscription token allows. */
export type Interests = ({ taskIds: readonly string[] } | { types: readonly string[] }) & {
  /** Created by a key that does not see payloads, results and errors. */
  isView?: boolean
}

/** The authenticated caller. */
export interface Principal {
  /** For the audit log; not secret. */
  id: string
  name: string
  scopes: readonly Scope[]
  rate: CallRate | null
  /** The key or session with which this ends; null for tokens of an issuer. */
  keyId: string | null
  expiresAt: number | null
  /** Subscription token only: time of creation (ms). */
  issuedAt?: number
  /** Subscription token only. */
  interests: Interests | null
  /** The visible part of the queue. Null: all of it. */
  bounds: Bounds | null
}

/** The view of a caller: which part of the queue, and whether with payloads, results and errors. */
export interface Sight {
  bounds: Bounds | null
  isFull: boolean
}

export function sightOf({ bounds, scopes, interests }: Principal): Sight {
  return { bounds, isFull: interests ? !interests.isView : includes(scopes, 'read') }
}

/** Without access control. */
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

/** @param why must not contain the credential, because it appears in answers and logs */
export function notAccepted(why: string): XQueueError {
  return new XQueueError('unauthorized', why, { challenge: `${REALM}, error="invalid_token"` })
}

export function notForTenants({ id, name }: Principal): XQueueError {
  const who = `${name} (${id})`
  const detail = `this call concerns the whole server, but ${who} is bound to a part of it: use a key without bounds`
  return new XQueueError('forbidden', detail)
}

export function notAllowed(principal: Principal, scope: RouteScope): XQueueError {
  const { id, name, scopes } = principal
  const required = scope === 'listen' ? 'read' : scope
  const sufficient = SCOPES.filter((one) => may({ ...principal, interests: null, scopes: [one] }, scope)).join(' or ')
  const has = scopes.length > 0 ? `has ${scopes.join(', ')}` : 'has no scope'
  const details = { required_scope: required, scopes }
  const challenge = `${REALM}, error="insufficient_scope", scope="${required}"`
  const detail = `this call needs the scope ${sufficient}, but ${name} (${id}) ${has}: use another key`
  return new XQueueError('forbidden', detail, { ...details, challenge })
}
