import { randomBytes } from 'node:crypto'
import type { KeyChange, Keys } from '../engine.ts'
import { sessionWithoutKey } from '../refusals.ts'
import type { Store } from './store.ts'

/** The keys that have not expired; null where the store has no secret yet, because creating one needs a change. */
export function readKeys(store: Store, now: number): Keys | null {
  const secret = store.get('secret')
  if (!secret) return null
  const keys = store.all('validKeys', now).map(({ body }) => JSON.parse(body as string))
  return { keys, secret: secret.value as string }
}

/** Any change also removes expired keys. */
export function changeKeys(store: Store, change: KeyChange | null, now: number): Keys {
  store.run('makeSecret', randomBytes(32).toString('base64url'))
  store.run('dropExpiredKeys', now)
  if (change && 'add' in change) {
    const { id, createdAt, expiresAt, session } = change.add
    if (session && session.of !== null && !store.get('key', session.of)) throw sessionWithoutKey()
    store.run('addKey', id, createdAt, expiresAt, session?.of ?? null, JSON.stringify(change.add))
  } else if (change && 'alter' in change) {
    const { id, expiresAt } = change.alter
    store.run('alterKey', id, expiresAt, JSON.stringify(change.alter))
  } else if (change) store.run('dropKey', change.drop)
  return readKeys(store, now)!
}
