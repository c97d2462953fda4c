import { afterEach, describe, expect, it, vi } from 'vitest'
import { Access, type AccessOptions, LOOK_MS } from '../../src/access/access.ts'
import { KeyRing } from '../../src/access/key-ring.ts'
import { ANYONE } from '../../src/access/principal.ts'
import { openTestQueue } from '../fixtures/server.ts'

const NEW_KEY = { scopes: ['read' as const], rate: null, bounds: null, expiresAt: null, session: null }

async function openAccess(options: Partial<AccessOptions> = {}) {
  const queue = await openTestQueue()
  return { queue, access: new Access({ queue, keys: true, issuer: null, tokenSecret: null, ...options }) }
}
afterEach(() => {
  vi.useRealTimers()
})
const refused = (message: string | RegExp) =>
  expect.objectContaining({ code: 'unauthorized', message: expect.stringMatching(message) })

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
  await vi.waitFor(() => expect(ended).toHaveBeenCalled())
  // It is asked about after the other one, in the same round.
  await vi.waitFor(() => expect(ended.mock.calls.length).toBeGreaterThan(1))
  expect(kept).not.toHaveBeenCalled()
  for (const leave of left) leave()
})

describe('the credential of a caller', () => {
  it('is a key, which is refused when it is unknown, or where keys are not accepted', async () => {
    const { queue, access } = await openAccess()
    const { token, key } = await new KeyRing(queue).add({
      name: 'shop',
      ...NEW_KEY,
      bounds: { types: ['t'], groups: null },
    })
    const principal = await access.authenticate(token)
    const { id, name, scopes, rate, bounds } = key
    expect(principal).toEqual({ id, name, scopes, rate, keyId: id, expiresAt: null, interests: null, bounds })
    expect(await access.authenticate(token)).toBe(principal)
    expect([access.recall(token), access.recall('xq_unknown'), access.recall('unknown')]).toEqual([
      principal,
      null,
      null,
    ])
    await expect(access.authenticate('xq_unknown')).rejects.toEqual(
      refused(/^the key is not valid: it was revoked, has expired, or never was$/),
    )
    const without = new Access({ queue, keys: false, issuer: null, tokenSecret: null })
    const notHere = refused(/^keys are not accepted here: --auth keys or keys\+jwt accepts them$/)
    await expect(without.authenticate(token)).rejects.toEqual(notHere)
    expect(without.recall(token)).toBeNull()
  })

  it('is otherwise a token, if there is an issuer of such', async () => {
    const { access } = await openAccess()
    const notHere = refused(/^tokens \(JWT\) are not accepted here: --auth jwt or keys\+jwt accepts them$/)
    await expect(access.authenticate('eyJ.e30.c2ln')).rejects.toEqual(notHere)
    for (const token of ['', 'a.b', 'a.b.c.d', 'xqs_session']) {
      await expect(access.authenticate(token)).rejects.toEqual(refused(/begin with xq_\) nor a JWT$/))
    }
  })

  it('is a session for half a day, and for no longer than its key', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const { queue, access } = await openAccess()
    const now = Date.now()
    const ring = new KeyRing(queue)
    const keys = [
      await ring.add({ name: 'long', ...NEW_KEY }),
      await ring.add({ name: 'short', ...NEW_KEY, expiresAt: now + 60_000 }),
    ]
    const open = async ({ token }: { token: string }) => access.openSession(await access.authenticate(token))
    const [long, short] = [await open(keys[0]!), await open(keys[1]!)]
    expect([long.expiresAt - now, short.expiresAt - now]).toEqual([12 * 3_600_000, 60_000])
    const session = await access.bySession(long.token)
    expect(session).toMatchObject({ name: 'long', scopes: ['read'], expiresAt: long.expiresAt })
    // Its calls count for its key.
    expect(session.id).not.toBe(session.keyId)
    await expect(access.bySession('xq_key')).rejects.toEqual(refused(/^the session has ended: log in again$/))
    await access.closeSession(session)
    await access.closeSession(ANYONE)
    await expect(access.bySession(long.token)).rejects.toEqual(refused(/^the session has ended: log in again$/))
  })

  it('is a token of its key, which ends with the key, has its rate, and is signed with a secret', async () => {
    const { queue, access } = await openAccess({ tokenSecret: 's'.repeat(32) })
    const rate = { max: 5, perMs: 60_000 }
    const { token: ofKey, key } = await new KeyRing(queue).add({ name: 'shop', ...NEW_KEY, rate })
    const by = await access.authenticate(ofKey)
    const claims = { interests: { types: ['t'] }, topics: [], expiresAt: Date.now() + 60_000 }
    const token = await access.signSubscription(claims, by)
    expect(await access.authenticate(token)).toMatchObject({ id: key.id, keyId: key.id, rate, scopes: [] })
    const other = new Access({ queue, keys: true, issuer: null, tokenSecret: null })
    await expect(other.authenticate(token)).rejects.toEqual(refused('was not issued by this queue'))
    const withoutKey = await access.signSubscription(claims, { ...ANYONE, rate })
    expect(await access.authenticate(withoutKey)).toMatchObject({ keyId: null, rate: null })
    await access.revoke(key)
    await expect(access.authenticate(token)).rejects.toEqual(refused('was made with is no longer valid'))
  })
})

it('refuses calls above a rate, and says when the next one is allowed', async () => {
  const { access } = await openAccess()
  const caller = { ...ANYONE, id: 'key-1', name: 'shop', rate: { max: 1, perMs: 2_500 } }
  await access.spend(caller)
  await expect(access.spend(caller)).rejects.toMatchObject({
    code: 'too_many_calls',
    message: 'shop may make 1 calls in 2.5 s: the next one in 3 s',
    details: { retry_after: 3 },
  })
})

it('has keys from the first one on, which a session is not', async () => {
  const { queue, access } = await openAccess()
  expect(await access.hasKeys()).toBe(false)
  await access.openSession({ ...ANYONE, name: 'user' })
  expect(await access.hasKeys()).toBe(false)
  await new KeyRing(queue).add({ name: 'shop', ...NEW_KEY })
  await vi.waitFor(async () => expect(await access.hasKeys()).toBe(true))
})

it('ends connections at their expiry, none while the store cannot be asked, and looks while there are any', async () => {
  const { queue } = await openAccess()
  vi.useFakeTimers({ toFake: ['Date', 'setInterval', 'clearInterval'] })
  const keys = vi.fn<typeof queue.keys>(async () => Promise.reject(new Error('no store')))
  const broken = new Proxy(queue, {
    get: (target, name: keyof typeof queue) => (name === 'keys' ? keys : target[name]),
  })
  const access = new Access({ queue: broken, keys: true, issuer: null, tokenSecret: null })
  const [expired, kept] = [vi.fn(), vi.fn()]
  const leave = [
    access.lapses({ ...ANYONE, expiresAt: Date.now() + LOOK_MS + 1 }, expired),
    access.lapses({ ...ANYONE, keyId: 'key-1' }, kept),
  ]
  expect(vi.getTimerCount()).toBe(1)
  await vi.advanceTimersByTimeAsync(LOOK_MS)
  await vi.waitFor(() => expect(keys).toHaveBeenCalledTimes(1))
  expect(expired).not.toHaveBeenCalled()
  await vi.advanceTimersByTimeAsync(LOOK_MS)
  await vi.waitFor(() => expect(expired).toHaveBeenCalledTimes(1))
  await vi.waitFor(() => expect(keys).toHaveBeenCalledTimes(2))
  expect(kept).not.toHaveBeenCalled()
  leave[0]!()
  expect(vi.getTimerCount()).toBe(1)
  leave[1]!()
  expect(vi.getTimerCount()).toBe(0)
  access.lapses(ANYONE, kept)()
  expect(vi.getTimerCount()).toBe(0)
})
