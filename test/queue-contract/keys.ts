import { describe, expect, it } from 'vitest'
import type { ApiKey } from '../../src/task/api-key.ts'
import type { Fixture } from './fixture.ts'

export function keysContract(fixture: Fixture): void {
  countCallsContract(fixture)
  const key = (id: string, more: Partial<ApiKey> = {}): ApiKey => ({
    id,
    name: `name of ${id}`,
    hash: `hash of ${id}`,
    scopes: ['read', 'submit'],
    rate: { max: 5, perMs: 1_000 },
    createdAt: fixture.now,
    expiresAt: null,
    session: null,
    ...more,
  })
  const ids = async () => (await fixture.queue.keys()).keys.map(({ id }) => id)

  describe('keys', () => {
    it('returns added keys to every process, oldest first', async () => {
      expect(await ids()).toEqual([])
      await fixture.queue.keys({ add: key('b', { createdAt: fixture.now - 1 }) })
      const { keys } = await fixture.queue.keys({ add: key('a') })
      expect(keys).toEqual([key('b', { createdAt: fixture.now - 1 }), key('a')])
      const second = await fixture.opened.second()
      expect((await second.keys()).keys).toEqual(keys)
      await second.keys({ drop: 'a' })
      expect(await ids()).toEqual(['b'])
    })

    it('drops a key with its sessions, and no others', async () => {
      await fixture.queue.keys({ add: key('a') })
      await fixture.queue.keys({ add: key('b') })
      for (const [id, of] of Object.entries({ 'a-1': 'a', 'a-2': 'a', 'b-1': 'b', nobodys: null })) {
        await fixture.queue.keys({ add: key(id, { session: { of } }) })
      }
      await fixture.queue.keys({ drop: 'a-2' })
      expect(await ids()).toEqual(['a', 'a-1', 'b', 'b-1', 'nobodys'])
      const { keys } = await fixture.queue.keys({ drop: 'a' })
      expect(keys.map(({ id }) => id)).toEqual(['b', 'b-1', 'nobodys'])
      await fixture.queue.keys({ drop: 'unknown' })
      expect(await ids()).toEqual(['b', 'b-1', 'nobodys'])
    })

    it('stores no session of a dropped key, in any order of the two calls', async () => {
      await fixture.queue.keys({ add: key('a') })
      await fixture.queue.keys({ drop: 'a' })
      const late = fixture.queue.keys({ add: key('late', { session: { of: 'a' } }) })
      await expect(late).rejects.toMatchObject({ code: 'unauthorized' })
      const second = await fixture.opened.second()
      for (let n = 0; n < 20; n++) {
        await fixture.queue.keys({ add: key('b') })
        const login = fixture.queue.keys({ add: key(`session-${n}`, { session: { of: 'b' } }) }).catch(() => undefined)
        await Promise.all([login, second.keys({ drop: 'b' })])
      }
      expect(await ids()).toEqual([])
    })

    it('changes an existing key, and does not restore a dropped one', async () => {
      await fixture.queue.keys({ add: key('a') })
      const { keys } = await fixture.queue.keys({ alter: key('a', { tokensFrom: 7 }) })
      expect(keys).toEqual([key('a', { tokensFrom: 7 })])
      await fixture.queue.keys({ drop: 'a' })
      expect((await fixture.queue.keys({ alter: key('a') })).keys).toEqual([])
    })

    it('does not return expired keys', async () => {
      await fixture.queue.keys({ add: key('short', { expiresAt: fixture.now + 1_000 }) })
      await fixture.queue.keys({ add: key('long', { expiresAt: fixture.now + 2_000 }) })
      fixture.now += 999
      expect(await ids()).toEqual(['long', 'short'])
      fixture.now += 1
      expect(await ids()).toEqual(['long'])
      expect((await fixture.queue.keys({ add: key('other') })).keys.map(({ id }) => id)).toEqual(['long', 'other'])
    })

    it('has one secret for each store, the same for all processes', async () => {
      const second = await fixture.opened.second()
      const secrets = await Promise.all([fixture.queue.keys(), second.keys(), fixture.queue.keys({ add: key('a') })])
      expect(secrets[0]!.secret).toMatch(/^[\w-]{43}$/)
      expect(new Set(secrets.map(({ secret }) => secret)).size).toBe(1)
    })
  })
}

/** At most so many calls of a key in any window of time. */
function countCallsContract(fixture: Fixture): void {
  const rate = { max: 5, perMs: 1_000 }
  const count = async (calls: number, key = 'a') => (await fixture.queue.countCalls(key, rate, calls)).allowed

  describe('countCalls', () => {
    it('allows a call when an earlier one leaves the window, to the millisecond, and reports the time', async () => {
      expect(await fixture.queue.countCalls('a', rate, 3)).toEqual({ allowed: 3, nextInMs: 0 })
      fixture.now += 400
      expect(await fixture.queue.countCalls('a', rate, 4)).toEqual({ allowed: 2, nextInMs: 600 })
      fixture.now += 599
      expect(await fixture.queue.countCalls('a', rate, 1)).toEqual({ allowed: 0, nextInMs: 1 })
      fixture.now += 1
      expect(await fixture.queue.countCalls('a', rate, 5)).toEqual({ allowed: 3, nextInMs: 400 })
      fixture.now += 100_000
      expect(await fixture.queue.countCalls('a', rate, 9)).toEqual({ allowed: 5, nextInMs: 1_000 })
    })

    it('never allows more in any window', async () => {
      const calls: number[] = []
      for (let step = 0; step < 60; step++) {
        for (let allowed = await count((step % 4) + 1); allowed > 0; allowed--) calls.push(fixture.now)
        fixture.now += (step * 37) % 211
      }
      expect(calls.length).toBeGreaterThan(25)
      for (const from of calls) {
        expect(calls.filter((at) => at >= from && at < from + rate.perMs).length).toBeLessThanOrEqual(rate.max)
      }
    })

    it('counts by key, apart from types, over all processes', async () => {
      const second = await fixture.opened.second()
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, n) => (n % 2 === 0 ? fixture.queue : second).countCalls('a', rate, 1)),
      )
      expect(answers.reduce((sum, { allowed }) => sum + allowed, 0)).toBe(rate.max)
      expect((await second.countCalls('b', rate, 9)).allowed).toBe(5)
      expect((await fixture.queue.countCalls('t', rate, 1)).allowed).toBe(1)
    })

    it('refuses no call for longer than the window after the clock was set back', async () => {
      expect(await count(9)).toBe(5)
      fixture.now -= 3_600_000
      expect(await count(9)).toBe(5)
      expect(await count(1)).toBe(0)
      fixture.now += rate.perMs
      expect(await count(9)).toBe(5)
    })

    it('continues to count when expired logs of other keys are removed', async () => {
      for (let key = 0; key < 20; key++) await count(5, `key-${key}`)
      fixture.now += 90_000_000
      await count(3)
      expect(await count(9)).toBe(2)
      expect(await count(9, 'key-7')).toBe(5)
      expect(await count(9, 'key-7')).toBe(0)
    })
  })
}
