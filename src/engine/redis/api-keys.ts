import { randomBytes } from 'node:crypto'
import type { ApiKey } from '../../task/api-key.ts'
import type { KeyChange, Keys } from '../engine.ts'
import type { RedisStore } from './store.ts'

/** Reads the keys, or changes them. Keys are few, so what expires and what a dropped key takes along is found here. */
export async function keysOf(store: RedisStore, change: KeyChange | null): Promise<Keys> {
  const kept = await step(store, [], null)
  if (!change) return valid(store, kept)
  const gone = 'drop' in change ? ({ id, session }: ApiKey) => id === change.drop || session?.of === change.drop : null
  const drops = kept.keys.filter((key) => isExpired(store, key) || gone?.(key)).map(({ id }) => id)
  return valid(store, await step(store, drops, 'add' in change ? change.add : null))
}

async function step(store: RedisStore, drops: readonly string[], add: ApiKey | null): Promise<Keys> {
  const ifNone = randomBytes(32).toString('base64url')
  const args = [ifNone, drops.length, ...drops, add?.id ?? '', add ? JSON.stringify(add) : '']
  const [secret, ...bodies] = await store.run<string[]>('keys', 0, args)
  return { keys: bodies.map((body) => JSON.parse(body)), secret: secret! }
}

function valid(store: RedisStore, { keys, secret }: Keys): Keys {
  const inOrder = (a: ApiKey, b: ApiKey) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1)
  return { keys: keys.filter((key) => !isExpired(store, key)).sort(inOrder), secret }
}

function isExpired(store: RedisStore, { expiresAt }: ApiKey): boolean {
  return expiresAt !== null && expiresAt <= store.now()
}
