import { randomBytes } from 'node:crypto'
import type { ApiKey } from '../../task/api-key.ts'
import type { KeyChange, Keys } from '../engine.ts'
import { sessionWithoutKey } from '../refusals.ts'
import type { RedisStore } from './store.ts'

/** Reads the keys, or changes them. There are few keys, so expired ones are filtered here. */
export async function keysOf(store: RedisStore, change: KeyChange | null): Promise<Keys> {
  const kept = (await step(store, [], null))!
  if (!change) return valid(store, kept)
  const expired = kept.keys.filter((key) => isExpired(store, key)).map(({ id }) => id)
  if ('drop' in change) return valid(store, (await step(store, [...expired, change.drop], null))!)
  const [key, needed] = 'add' in change ? [change.add, change.add.session?.of ?? ''] : [change.alter, '1']
  const changed = await step(store, expired, key, needed)
  if (changed) return valid(store, changed)
  if ('add' in change) throw sessionWithoutKey()
  return keysOf(store, null)
}

/** Null where a key that the change needs does not exist. */
async function step(
  store: RedisStore,
  drops: readonly string[],
  key: ApiKey | null,
  needed = '',
): Promise<Keys | null> {
  const ifNone = randomBytes(32).toString('base64url')
  const args = [ifNone, drops.length, ...drops, key?.id ?? '', key ? JSON.stringify(key) : '', needed]
  const [secret, ...bodies] = await store.run<string[]>('keys', 0, args)
  return secret === undefined ? null : { keys: bodies.map((body) => JSON.parse(body)), secret }
}

function valid(store: RedisStore, { keys, secret }: Keys): Keys {
  const inOrder = (a: ApiKey, b: ApiKey) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1)
  return { keys: keys.filter((key) => !isExpired(store, key)).sort(inOrder), secret }
}

function isExpired(store: RedisStore, { expiresAt }: ApiKey): boolean {
  return expiresAt !== null && expiresAt <= store.now()
}
