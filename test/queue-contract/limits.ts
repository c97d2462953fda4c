import { describe, expect, it } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import type { Fixture } from './fixture.ts'
import { limitSteps } from './limit-steps.ts'

/** How named limits are created, listed, removed and explained. */
export function limitsContract(fixture: Fixture): void {
  const { claim, succeed, limit } = fixture
  const { set, add, facts, code } = limitSteps(fixture)

  const handler = {
    maxConcurrency: null,
    groupConcurrency: null,
    rate: null,
    retry: { baseMs: 1_000, factor: 2, capMs: 60_000, jitter: 0 },
    payloadSchema: null,
    defaults: {},
  }

  describe('named limits', () => {
    it('are created by max, rate or a handler, and by nothing else', async () => {
      expect(await code(set('x', { paused: true }))).toBe('unknown_limit')
      expect(await code(set('x', { holdMs: 5 }))).toBe('unknown_limit')
      expect(await code(set('x', { remove: true }))).toBe('unknown_limit')
      expect(await fixture.queue.limits({ names: ['x'] })).toEqual([])
      await set('x', { max: null })
      expect(await facts('x')).toMatchObject({ max: null, rate: null, paused: false, heldUntil: null, inUse: 0 })
    })

    it('are declared by handlers until an operator sets them', async () => {
      const declare = (max: number) =>
        fixture.queue.declareHandlers(
          new Map([['t', { ...handler, limits: { gpu: { max, rate: { max: 9, perMs: 1_000 } } } }]]),
        )
      await declare(3)
      expect(await facts('gpu')).toMatchObject({ max: 3, rate: { max: 9, perMs: 1_000 } })
      await set('gpu', { max: 7 })
      await declare(4)
      expect(await facts('gpu')).toMatchObject({ max: 7, rate: { max: 9, perMs: 1_000 } })
    })

    it('lose no change that several processes make at the same moment', async () => {
      const other = await fixture.opened.second()
      await set('gpu', { max: 1 })
      const rate = { max: 7, perMs: 1_000 }
      for (let round = 2; round < 7; round++) {
        const declared = { ...handler, limits: { gpu: { max: 1, rate: null }, [`n${round}`]: { max: 1, rate } } }
        await Promise.all([
          set('gpu', { max: round }),
          other.configureLimit('gpu', { rate: { max: round, perMs: 1_000 } }),
          set('gpu', { holdMs: round }),
          other.configureLimit('gpu', { paused: round % 2 === 0 }),
          fixture.queue.declareHandlers(new Map([['t', declared]])),
        ])
        expect(await facts('gpu')).toMatchObject({ max: round, rate: { max: round }, paused: round % 2 === 0 })
        expect((await facts('gpu')).heldUntil).toBe(fixture.now + round)
        expect(await facts(`n${round}`)).toMatchObject({ max: 1, rate })
      }
    })

    it('are not removed while a task uses them', async () => {
      await set('gpu', { max: 1 })
      await add('a', { gpu: 1 }, { delayMs: 1_000 })
      expect(await code(set('gpu', { remove: true }))).toBe('limit_in_use')
      fixture.now += 1_000
      const [lease] = await claim(1)
      expect(await code(set('gpu', { remove: true }))).toBe('limit_in_use')
      await succeed(lease!.lease)
      await set('gpu', { remove: true })
      expect(await fixture.queue.limits({ names: ['gpu'] })).toEqual([])
    })

    it('are listed with what is in use and what waits, in the order of their names', async () => {
      await set('b/*', { max: 2 })
      await set('group:x/acme', { max: 3 })
      await set('a', { max: 1 })
      await add('x', { a: 1, 'b/k': 1 })
      await add('y', { a: 1 })
      await claim(9)
      expect(await fixture.queue.limits()).toMatchObject([
        { name: 'a', max: 1, inUse: 1, waiting: 1 },
        { name: 'b/*', max: 2, inUse: null, waiting: null },
        { name: 'group:x/acme', max: 3, inUse: null, waiting: null },
      ])
      expect(await facts('b/k')).toMatchObject({ name: 'b/k', max: 2, inUse: 1, waiting: 0 })
    })

    it('show the units of each task that holds them, however many there are', async () => {
      await set('gpu', { max: 1_000 })
      await set('net', { max: 1_000 })
      for (let index = 0; index < 40; index++) await add('a', { gpu: 1, net: 2 })
      expect(await claim(40)).toHaveLength(40)
      for (const [name, units] of [['gpu', 1] as const, ['net', 2] as const]) {
        const { holders, inUse } = await facts(name)
        expect([inUse, holders.length]).toEqual([40 * units, 40])
        expect(new Set(holders.map((holder) => holder.units))).toEqual(new Set([units]))
      }
    })
  })

  describe('an explanation', () => {
    const why = async (queue: Queue, id: string) => (await queue.explain(id))!

    it('names each limit in the way, with the tasks that hold it and until when', async () => {
      await set('gpu', { max: 1 })
      await set('tokens', { rate: { max: 1, perMs: 10_000 } })
      const first = await add('a', { gpu: 1, tokens: 1 })
      const second = await add('b', { gpu: 1, tokens: 1 })
      await claim(9)
      const found = await why(fixture.queue, second)
      expect(found.reason).toBe('limit_reached')
      expect(found.limits).toMatchObject([
        { name: 'gpu', reason: 'limit_reached', needs: 1, until: fixture.now + 1_000, holders: [{ taskId: first }] },
        { name: 'tokens', reason: 'rate_limited', needs: 1, until: fixture.now + 10_000, holders: [] },
      ])
      await set('gpu', { paused: true })
      expect((await why(fixture.queue, second)).limits[0]).toMatchObject({ name: 'gpu', reason: 'paused' })
      await set('gpu', { paused: false, holdMs: 77 })
      expect((await why(fixture.queue, second)).limits[0]).toMatchObject({ reason: 'held', until: fixture.now + 77 })
    })

    it('is right about a rate after very many starts, and so is the number of runnable tasks', async () => {
      await set('tokens', { rate: { max: 150, perMs: 10_000 } })
      for (let index = 0; index < 150; index++) await add('a', { tokens: 1 })
      for (let index = 0; index < 150; index++) {
        expect(await claim()).toHaveLength(1)
        fixture.now += 1
      }
      const last = await add('b', { tokens: 101 })
      expect((await why(fixture.queue, last)).reason).toBe('rate_limited')
      const runnable = async () => (await fixture.queue.types({ names: ['t'], demand: true }))[0]!.runnable
      expect(await runnable()).toBe(150)
      fixture.now += 10_000
      expect(await runnable()).toBe(151)
      expect(await why(fixture.queue, last)).toMatchObject({ reason: 'ready', limits: [] })
    })

    it('names the limits of the type and the group in the same list', async () => {
      await limit('t', 1, { groupConcurrency: 1 })
      await set('gpu', { max: 1 })
      await add('a', { gpu: 1 }, { group: 'g' })
      const second = await add('b', { gpu: 1 }, { group: 'g' })
      await claim(9)
      const { limits } = await why(fixture.queue, second)
      expect(limits.map(({ name }) => name)).toEqual(['type:t', 'group:t/g', 'gpu'])
    })
  })
}
