import { randomBytes } from 'node:crypto'
import { sessionWithoutKey } from '../refusals.ts'
import type { KeyChange, Keys } from '../store.ts'
import type { Database } from './database.ts'

/** The keys that have not expired; null where the store has no secret yet, because creating one needs a change. */
export function readKeys(database: Database, now: number): Keys | null {
  const secret = database.get('secret')
  if (!secret) return null
  const keys = database.all('validKeys', now).map(({ body }) => JSON.parse(body as string))
  return { keys, secret: secret.value as string }
}

/** Any change also removes expired keys. */
export function changeKeys(database: Database, change: KeyChange | null, now: number): Keys {
  database.run('makeSecret', randomBytes(32).toString('base64url'))
  database.run('dropExpiredKeys', now)
  if (change && 'add' in change) {
    const { id, createdAt, expiresAt, session } = change.add
    if (session && session.of !== null && !database.get('key', session.of)) throw sessionWithoutKey()
    database.run('addKey', id, createdAt, expiresAt, session?.of ?? null, JSON.stringify(change.add))
  } else if (change && 'alter' in change) {
    const { id, expiresAt } = change.alter
    database.run('alterKey', id, expiresAt, JSON.stringify(change.alter))
  } else if (change) database.run('dropKey', change.drop)
  return readKeys(database, now)!
}
