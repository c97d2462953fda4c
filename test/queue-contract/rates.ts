import { describe, expect, it } from 'vitest'
import { type Fixture, WORKER } from './fixture.ts'

/** At most so many starts of a type in any window of time. */
export function ratesContract(fixture: Fixture): void {
  const { start, limit, submit, claim, succeed } = fixture

  const add = async (count: number, more: object = {}): Promise<string[]> => {
    const ids: string[] = []
    for (let index = 0; index < count; index++) ids.push((await submit(more)).id)
    return ids
  }
  const started = async (want = 9) => (await claim(want)).length

  describe('a rate', () => {
    it('allows a start when an earlier one leaves the window, to the millisecond', async () => {
      await limit('t', null, { rate: { max: 3, perMs: 1_000 } })
      await add(9)
      expect(await started(2)).toBe(2)
      fixture.now += 400
      expect(await started()).toBe(1)
      expect(await started()).toBe(0)
      fixture.now += 599
      expect(await started()).toBe(0)
      fixture.now += 1
      expect(await started()).toBe(2)
      fixture.now += 399
      expect(await started()).toBe(0)
      fixture.now += 1
      expect(await started()).toBe(1)
      fixture.now += 100_000
      expect(await started()).toBe(3)
    })

    it('never allows more in any window', async () => {
      await limit('t', null, { rate: { max: 5, perMs: 700 } })
      await add(60)
      const starts: number[] = []
      for (let step = 0; step < 60 && starts.length < 60; step++) {
        for (const { task } of await claim((step % 4) + 1)) starts.push(task.startedAt!)
        fixture.now += (step * 37) % 211
      }
      expect(starts.length).toBeGreaterThan(30)
      for (const from of starts) {
        expect(starts.filter((at) => at >= from && at < from + 700).length).toBeLessThanOrEqual(5)
      }
    })

    it('counts each delivery, over all processes', async () => {
      const other = await fixture.opened.second()
      await limit('t', null, { rate: { max: 3, perMs: 1_000 } })
      await add(5)
      const [lease] = await claim(1)
      expect((await other.turn({ worker: { ...WORKER, id: 'w2' }, want: 1 })).leases).toHaveLength(1)
      const outcomes = [{ lease: lease!.lease, outcome: { kind: 'released' } as const }]
      const { leases } = await fixture.queue.turn({ worker: WORKER, want: 9, outcomes })
      expect(leases).toHaveLength(1)
      expect((await other.turn({ worker: { ...WORKER, id: 'w2' }, want: 9 })).leases).toEqual([])
    })

    it('applies to its type beside the limit, and counts tasks of all groups and priorities', async () => {
      await limit('t', 2, { rate: { max: 3, perMs: 1_000 } })
      for (const group of ['a', null, 'b', 'a']) await submit({ group, priority: group === 'b' ? 1 : 0 })
      await add(4, { type: 'u' })
      const leases = await claim(9)
      expect(leases.filter(({ task }) => task.type === 'u')).toHaveLength(4)
      const ofT = leases.filter(({ task }) => task.type === 't')
      expect(ofT).toHaveLength(2)
      for (const { lease } of ofT) await succeed(lease)
      expect(await started()).toBe(1)
    })

    it('counts the starts of its type apart from those of others', async () => {
      const rate = { max: 2, perMs: 10_000 }
      for (const type of ['t', 'u']) {
        await limit(type, null, { rate })
        await add(3, { type })
      }
      const startedOf = async (type: string) =>
        (await fixture.queue.turn({ worker: WORKER, types: [type], want: 1 })).leases.length
      expect(await startedOf('t')).toBe(1)
      fixture.now += 5_000
      expect(await startedOf('u')).toBe(1)
      fixture.now += 11_000
      expect([await startedOf('t'), await startedOf('t')]).toEqual([1, 1])
    })

    it('can change at run time, and prefers the operator to the handler', async () => {
      await add(9)
      expect((await limit('t', null, { rate: { max: 1, perMs: 5_000 } })).rate).toEqual({ max: 1, perMs: 5_000 })
      expect(await started()).toBe(1)
      const raised = await fixture.queue.configureType('t', { rate: { max: 3, perMs: 5_000 } })
      expect(raised.rate).toEqual({ max: 3, perMs: 5_000 })
      expect(await started()).toBe(2)
      expect((await limit('t', null, { rate: { max: 9, perMs: 5_000 } })).rate).toEqual({ max: 3, perMs: 5_000 })
      await fixture.queue.configureType('t', { rate: { max: 2, perMs: 5_000 } })
      fixture.now += 5_000
      expect(await started()).toBe(2)
      expect((await fixture.queue.configureType('t', { rate: null })).rate).toBeNull()
      expect((await limit('t', null, { rate: { max: 1, perMs: 5_000 } })).rate).toBeNull()
      expect(await started()).toBe(4)
    })

    it('counts no start from before it was set, as those of an earlier rate that was removed', async () => {
      const rate = { max: 2, perMs: 1_000 }
      await add(9)
      for (let times = 0; times < 2; times++) {
        await fixture.queue.configureType('t', { rate })
        expect(await started()).toBe(2)
        fixture.now += 600
        expect(await started()).toBe(0)
        await fixture.queue.configureType('t', { rate: null })
        expect(await started(1)).toBe(1)
      }
    })

    it('is explained, with the time of the next start', async () => {
      await limit('t', null, { rate: { max: 2, perMs: 1_000 } })
      const [, , third] = await add(4)
      await claim(1)
      const first = fixture.now
      fixture.now += 300
      await claim(1)
      expect(await fixture.queue.explain(third!)).toMatchObject({ reason: 'rate_limited', until: first + 1_000 })
      await fixture.queue.configureType('t', { rate: { max: 1, perMs: 1_000 } })
      expect(await fixture.queue.explain(third!)).toMatchObject({ reason: 'rate_limited', until: fixture.now + 1_000 })
      fixture.now += 1_000
      expect(await fixture.queue.explain(third!)).toMatchObject({ reason: 'ready', until: null })
    })

    it('wakes a waiting turn also if the rate allows the start during the read', async () => {
      const perMs = 100
      await limit('t', null, { rate: { max: 1, perMs } })
      for (let readsBefore = 1; readsBefore <= 8; readsBefore++) {
        await add(2)
        expect(await claim()).toHaveLength(1)
        fixture.now += perMs - readsBefore
        fixture.tickMs = 1
        const { leases } = await fixture.queue.turn({ worker: WORKER, want: 1, waitMs: 3_000 })
        fixture.tickMs = 0
        expect(leases).toHaveLength(1)
        fixture.now += perMs
      }
    })

    it('wakes a waiting turn when it allows the next start', async () => {
      await fixture.opened.cleanup()
      await start({ clock: Date.now })
      await limit('t', null, { rate: { max: 2, perMs: 100 } })
      const ids = await add(5)
      const starts: { id: string; at: number }[] = []
      while (starts.length < ids.length) {
        const { leases } = await fixture.queue.turn({ worker: WORKER, want: 9, waitMs: 20_000 })
        expect(leases).not.toEqual([])
        starts.push(...leases.map(({ task }) => ({ id: task.id, at: task.startedAt! })))
      }
      expect(starts.map(({ id }) => id)).toEqual(ids)
      // By the engine's own clock: each start has left the window when the next but one comes.
      for (let index = 2; index < starts.length; index++) {
        expect(starts[index]!.at - starts[index - 2]!.at).toBeGreaterThanOrEqual(100)
      }
    })
  })
}
