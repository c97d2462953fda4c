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

/** What is kept of a key: everything but the token itself, which only its holder has. */
export interface ApiKey {
  /** Not secret. */
  id: string
  name: string
  /** Of the token: SHA-256, base64url. */
  hash: string
  scopes: readonly Scope[]
  rate: CallRate | null
  /** The tenant's part of the queue; not there in keys of older versions, which have no bounds. */
  bounds?: Bounds | null
  createdAt: number
  expiresAt: number | null
  /** Subscription tokens that were made before are no longer valid. */
  tokensFrom?: number
  /** Of a session (somebody has logged in): the key it was opened with, if it was one, and with which it ends. */
  session: { of: string | null } | null
}

export function isScope(text: string): text is Scope {
  return SCOPES.includes(text as Scope)
}

export function includes(scopes: readonly Scope[], wanted: Scope): boolean {
  return scopes.includes(wanted) || scopes.includes('admin') || (wanted === 'view' && scopes.includes('read'))
}
