import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { BELIEVED_MS, KeyRing, type NewKey } from '../../src/access/key-ring.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { openTestQueue } from '../fixtures/server.ts'

const HOUR_MS = 3_600_000
const NEW_KEY: NewKey = { name: 'shop', scopes: ['read'], rate: null, bounds: null, expiresAt: null, session: null }

let queue: Queue
/** The reads of keys, and those that fail. */
let reads: number
let failing: boolean
let ring: KeyRing
beforeEach(async () => {
  queue = await openTestQueue()
  vi.useFakeTimers({ toFake: ['Date', 'performance'] })
  // The clock does not begin at 0.
  vi.advanceTimersByTime(10_000)
  reads = 0
  failing = false
  const keys: Queue['keys'] = (change) => {
    if (!change) reads += 1
    return failing ? Promise.reject(new Error('no store')) : queue.keys(change)
  }
  ring = new KeyRing(new Proxy(queue, { get: (target, name: keyof Queue) => (name === 'keys' ? keys : target[name]) }))
})
afterEach(() => {
  vi.useRealTimers()
})
const elapse = (ms: number) => vi.advanceTimersByTime(ms)

it('makes a key and a session, whose tokens only their holders have', async () => {
  const { token, key } = await ring.add(NEW_KEY)
  expect([token, key.id]).toEqual([expect.stringMatching(/^xq_[\w-]{43}$/), expect.stringMatching(/^key-[\da-f]{12}$/)])
  expect(key).toEqual({ ...NEW_KEY, id: key.id, hash: expect.stringMatching(/^[\w-]{43}$/), createdAt: Date.now() })
  const session = await ring.add({ ...NEW_KEY, session: { of: key.id } })
  expect(session.token).toMatch(/^xqs_[\w-]{43}$/)
  expect(session.key.id).toMatch(/^session-[\da-f]{12}$/)
  expect([await ring.find(token), await ring.find(session.token)]).toEqual([key, session.key])
  expect(await ring.all()).toEqual([key, session.key])
  expect(await ring.secret()).toBe((await queue.keys()).secret)
})

it('does not make a second key with a name, but sessions with the name of their key', async () => {
  await ring.add({ ...NEW_KEY, session: { of: null } })
  const { key } = await ring.add(NEW_KEY)
  await ring.add({ ...NEW_KEY, session: { of: key.id } })
  const message = 'a key named shop exists: choose another name, or revoke that key first'
  await expect(ring.add(NEW_KEY)).rejects.toMatchObject({ code: 'invalid_request', message })
  await ring.add({ ...NEW_KEY, name: 'other' })
})

it('reads the keys again after 400 ms, and for an unknown token after 100 ms', async () => {
  const { token } = await ring.add(NEW_KEY)
  await ring.find(token)
  elapse(BELIEVED_MS - 1)
  await ring.find(token)
  expect(reads).toBe(1)
  elapse(1)
  await ring.find(token)
  expect(reads).toBe(2)
  elapse(99)
  expect([await ring.find('xq_unknown'), reads]).toEqual([null, 2])
  elapse(1)
  expect([await ring.find('xq_unknown'), reads]).toEqual([null, 3])
  // Another process makes it.
  const { token: added } = await new KeyRing(queue).add({ ...NEW_KEY, name: 'other' })
  elapse(100)
  expect([(await ring.find(added))?.name, reads]).toEqual(['other', 4])
})

it('recalls a key that was found, for as long as its keys are believed', async () => {
  const { token, key } = await ring.add({ ...NEW_KEY, expiresAt: Date.now() + HOUR_MS })
  expect(ring.recall(token)).toBeNull()
  await ring.find(token)
  expect([ring.recall(token), ring.recall('xq_unknown')]).toEqual([key, null])
  elapse(BELIEVED_MS - 1)
  expect(ring.recall(token)).toEqual(key)
  elapse(1)
  expect(ring.recall(token)).toBeNull()
  await ring.find(token)
  expect(ring.recall(token)).toEqual(key)
  await ring.drop(key.id)
  expect([ring.recall(token), await ring.find(token), await ring.byId(key.id)]).toEqual([null, null, null])
})

it('knows an expired key no more, nor the sessions that it opened', async () => {
  const expiresAt = Date.now() + 100
  const { token, key } = await ring.add({ ...NEW_KEY, expiresAt })
  const session = await ring.add({ ...NEW_KEY, session: { of: key.id } })
  const ofUser = await ring.add({ ...NEW_KEY, name: 'user', session: { of: null } })
  const known = async () => {
    const found = [await ring.find(token), await ring.find(session.token), await ring.find(ofUser.token)]
    const byId = [await ring.byId(key.id), await ring.byId(session.key.id), await ring.byId(ofUser.key.id)]
    return [found, byId].map((keys) => keys.map((each) => each?.id ?? null))
  }
  const ids = [key.id, session.key.id, ofUser.key.id]
  elapse(99)
  expect(await known()).toEqual([ids, ids])
  elapse(1)
  expect([ring.recall(token), ring.recall(session.token)]).toEqual([null, null])
  const left = [null, null, ofUser.key.id]
  expect([await known(), await ring.all()]).toEqual([[left, left], [ofUser.key]])
})

it('believes no session that was opened with another session', async () => {
  const outer = await ring.add({ ...NEW_KEY, session: { of: null } })
  const read = async () => {
    const { keys, secret } = await queue.keys()
    return { keys: [...keys, { ...keys[0]!, id: 'session-2', hash: 'h', session: { of: outer.key.id } }], secret }
  }
  const nested = new KeyRing(
    new Proxy(queue, { get: (target, name: keyof Queue) => (name === 'keys' ? read : target[name]) }),
  )
  expect((await nested.all()).map(({ id }) => id)).toEqual([outer.key.id])
})

it('repeats a read that failed, and reports the failure to each call', async () => {
  const { token, key } = await ring.add(NEW_KEY)
  elapse(BELIEVED_MS)
  failing = true
  await expect(Promise.all([ring.find(token), ring.all()])).rejects.toThrow('no store')
  expect(reads).toBe(2)
  failing = false
  expect([await ring.find(token), reads]).toEqual([key, 3])
})

it('revokes the tokens that a key has created until now', async () => {
  const { key } = await ring.add(NEW_KEY)
  elapse(5)
  await ring.revokeTokens(key)
  expect(await ring.byId(key.id)).toEqual({ ...key, tokensFrom: Date.now() })
})
