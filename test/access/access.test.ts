import { expect, it, vi } from 'vitest'
import { Access } from '../../src/access/access.ts'
import { KeyRing } from '../../src/access/key-ring.ts'
import { ANYONE } from '../../src/access/principal.ts'
import { openTestQueue } from '../fixtures/server.ts'

const NEW_KEY = { scopes: ['read' as const], rate: null, bounds: null, expiresAt: null, session: null }

async function openAccess() {
  const queue = await openTestQueue()
  return { queue, access: new Access({ queue, keys: true, issuer: null, tokenSecret: null }) }
}

it('ends the oldest of 51 sessions of a user, and no session of another user or key', async () => {
  const { queue, access } = await openAccess()
  const user = (name: string) => ({ ...ANYONE, name })
  const { token } = await new KeyRing(queue).add({ name: 'name', ...NEW_KEY })
  const others = [user('other'), await access.authenticate(token)]
  for (const other of others) await access.openSession(other)
  for (let session = 0; session < 50; session++) await access.openSession(user('name'))
  const before = await access.keys()
  // The key, its session, that of the other user, and 50.
  expect(before).toHaveLength(53)
  await access.openSession(user('name'))
  const after = await access.keys()
  const [oldest] = before.filter(({ name, session }) => name === 'name' && session?.of === null)
  const ids = (keys: typeof before) => keys.map(({ id }) => id)
  expect(ids(after).slice(0, -1)).toEqual(ids(before).filter((id) => id !== oldest!.id))
})

it('ends the connections of a revoked key, and none of a caller without a key', async () => {
  const { queue, access } = await openAccess()
  const { token, key } = await new KeyRing(queue).add({ name: 'shop', ...NEW_KEY })
  const [ended, kept] = [vi.fn(), vi.fn()]
  const left = [access.lapses(await access.authenticate(token), ended), access.lapses(ANYONE, kept)]
  await access.revoke(key)
  await vi.waitFor(() => expect(ended).toHaveBeenCalled(), { timeout: 10_000 })
  // It is asked about after the other one, in the same round.
  await vi.waitFor(() => expect(ended.mock.calls.length).toBeGreaterThan(1), { timeout: 10_000 })
  expect(kept).not.toHaveBeenCalled()
  for (const leave of left) leave()
})
