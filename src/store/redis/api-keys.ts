import { randomBytes } from 'node:crypto'
import type { ApiKey } from '../../task/api-key.ts'
import { sessionWithoutKey } from '../refusals.ts'
import type { KeyChange, Keys } from '../store.ts'
import type { Database } from './database.ts'

/** Reads the keys, or changes them. There are few keys, so expired ones are filtered here. */
export async function keysOf(database: Database, change: KeyChange | null): Promise<Keys> {
  const kept = (await step(database, [], null))!
  if (!change) return valid(database, kept)
  const expired = kept.keys.filter((key) => isExpired(database, key)).map(({ id }) => id)
  if ('drop' in change) return valid(database, (await step(database, [...expired, change.drop], null))!)
  const [key, needed] = 'add' in change ? [change.add, change.add.session?.of ?? ''] : [change.alter, '1']
  const changed = await step(database, expired, key, needed)
  if (changed) return valid(database, changed)
  if ('add' in change) throw sessionWithoutKey()
  return keysOf(database, null)
}

/** Null where a key that the change needs does not exist. */
async function step(
  database: Database,
  drops: readonly string[],
  key: ApiKey | null,
  needed = '',
): Promise<Keys | null> {
  const ifNone = randomBytes(32).toString('base64url')
  const args = [ifNone, drops.length, ...drops, key?.id ?? '', key ? JSON.stringify(key) : '', needed]
  const [secret, ...bodies] = await database.run<string[]>('keys', 0, args)
  return secret === undefined ? null : { keys: bodies.map((body) => JSON.parse(body)), secret }
}

function valid(database: Database, { keys, secret }: Keys): Keys {
  const inOrder = (a: ApiKey, b: ApiKey) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1)
  return { keys: keys.filter((key) => !isExpired(database, key)).sort(inOrder), secret }
}

function isExpired(database: Database, { expiresAt }: ApiKey): boolean {
  return expiresAt !== null && expiresAt <= database.now()
}
