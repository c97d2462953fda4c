import type { Bounds } from './bounds.ts'

/**
 * What a caller may do. `admin` includes the others, and `read` includes `view`: to see tasks without their payloads,
 * results and errors.
 */
export const SCOPES = ['submit', 'view', 'read', 'work', 'admin'] as const
export type Scope = (typeof SCOPES)[number]

/** A name is shown in lists and in the audit log. */
export const KEY_NAME_PATTERN = /^[A-Za-z0-9][\w.@-]{0,63}$/

/** At most `max` calls in any window of `perMs`. */
export interface CallRate {
  max: number
  perMs: number
}

/** The stored record of a key. It does not contain the token, which only the key's holder has. */
export interface ApiKey {
  /** Not secret. */
  id: string
  name: string
  /** Of the token: SHA-256, base64url. */
  hash: string
  scopes: readonly Scope[]
  rate: CallRate | null
  /** The tenant's part of the queue. Keys of older versions lack it and have no bounds. */
  bounds?: Bounds | null
  createdAt: number
  expiresAt: number | null
  /** Subscription tokens created earlier are no longer valid. */
  tokensFrom?: number
  /** Session only: the key that opened it, if any. The session ends with the key. */
  session: { of: string | null } | null
}

export type KeyChange = { add: ApiKey } | { alter: ApiKey } | { drop: string }

export interface Keys {
  keys: ApiKey[]
  /** The secret that signs tokens: 32 random bytes, base64url, created once for each store. */
  secret: string
}

export function isScope(text: string): text is Scope {
  return SCOPES.includes(text as Scope)
}

export function includes(scopes: readonly Scope[], wanted: Scope): boolean {
  return scopes.includes(wanted) || scopes.includes('admin') || (wanted === 'view' && scopes.includes('read'))
}
