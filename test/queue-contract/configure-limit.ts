import { describe, expect, it } from 'vitest'
import type { LimitChange } from '../../src/queue/queue.ts'
import type { Outcome } from '../../src/task/outcome.ts'
import type { Uses } from '../../src/task/uses.ts'
import { type Fixture, WORKER } from './fixture.ts'
import { limitSteps } from './limit-steps.ts'

/** Named limits, which tasks of any type can use. */
export function configureLimitContract(fixture: Fixture): void {
  const { claim, succeed, fail, get, limit, start } = fixture
  const { set, add, names, next, facts } = limitSteps(fixture)

  describe('a named limit', () => {
    it('bounds the units that tasks of several types hold at once', async () => {
      await set('gpu', { max: 3 })
      await add('t1', { gpu: 1 })
      await add('u1', { gpu: 2 }, { type: 'u' })
      await add('t2', { gpu: 1 })
      await add('u2', {}, { type: 'u' })
      const leases = await claim(9)
      expect(names(leases).split(' ').sort()).toEqual(['t1', 'u1', 'u2'])
      expect(await next()).toBe('')
      await succeed(leases.find(({ task }) => task.payload === 't1')!.lease)
      expect(await next()).toBe('t2')
    })

    it('is in force for every process at once, and is changed at run time', async () => {
      const other = await fixture.opened.second()
      await set('gpu', { max: 1 })
      for (const name of ['a', 'b', 'c', 'd']) await add(name, { gpu: 1 })
      const [first] = await claim(9)
      const claimOther = async () => (await other.turn({ worker: { ...WORKER, id: 'w2' }, want: 9 })).leases
      expect(await claimOther()).toEqual([])
      await other.configureLimit('gpu', { max: 2 })
      expect(await next()).toBe('b')
      await other.configureLimit('gpu', { max: 1 })
      await succeed(first!.lease)
      expect(await claimOther()).toEqual([])
      await set('gpu', { max: null })
      expect(names(await claimOther())).toBe('c d')
    })

    it('counts the units that other processes start and end', async () => {
      const other = await fixture.opened.second()
      const turn = (outcomes: readonly { lease: string; outcome: Outcome }[] = []) =>
        other.turn({ worker: { ...WORKER, id: 'w2' }, want: outcomes.length === 0 ? 1 : 0, outcomes })
      await set('gpu', { max: 2 })
      for (const name of ['a', 'b', 'c', 'd']) await add(name, { gpu: 1 })
      expect(names(await claim(1))).toBe('a')
      const { leases } = await turn()
      expect(names(leases)).toBe('b')
      expect(await next()).toBe('')
      await turn([{ lease: leases[0]!.lease, outcome: { kind: 'success', result: null } }])
      expect(await next()).toBe('c')
      expect((await facts('gpu')).inUse).toBe(2)
    })

    it('keeps no task waiting that does not use it, whatever waits for it', async () => {
      await set('gpu', { max: 1 })
      for (let index = 0; index < 30; index++) {
        await add(`x${index}`, { gpu: 1 }, { group: index % 2 ? `g${index}` : null, priority: 5 })
      }
      await add('free', {})
      await add('other', { cpu: 1 }).catch(() => undefined)
      expect((await next(2)).split(' ')).toContain('free')
    })

    it('is checked together with the limits of the type and of the group', async () => {
      await limit('t', 3, { groupConcurrency: 1 })
      await set('gpu', { max: 2 })
      await set('net', { max: 2 })
      await add('a1', { gpu: 1 }, { group: 'a' })
      await add('a2', { net: 1 }, { group: 'a' })
      await add('b1', { gpu: 1, net: 1 }, { group: 'b' })
      await add('c1', { gpu: 1 }, { group: 'c' })
      await add('d1', { net: 1 }, { group: 'd' })
      await add('e1', {}, { group: 'e' })
      const leases = await claim(9)
      expect(names(leases)).toBe('a1 b1 d1')
      await succeed(leases[0]!.lease)
      expect(await next()).toBe('c1')
    })

    it.each([
      ['success', (lease: string) => succeed(lease)],
      ['a failure', (lease: string) => fail(lease, { retry: false })],
      ['a retry', (lease: string) => fail(lease, { delayMs: 60_000 })],
    ])('has its units back after %s', async (_, end) => {
      await set('gpu', { max: 5 })
      await add('a', { gpu: 5 })
      await add('b', { gpu: 5 })
      const [first] = await claim(9)
      expect(await facts('gpu')).toMatchObject({ inUse: 5, waiting: 1 })
      await end(first!.lease)
      expect(await next()).toBe('b')
      expect(await facts('gpu')).toMatchObject({ inUse: 5, waiting: 0 })
    })

    it('has its units back when a lease expires, and when a canceled task ends', async () => {
      await set('gpu', { max: 1 })
      const id = await add('a', { gpu: 1 }, { maxRetry: 0 })
      await add('b', { gpu: 1 })
      await claim(1)
      fixture.now += 1_000
      await fixture.queue.sweep(100)
      const [again] = await claim(9)
      expect(again!.task.id).toBe(id)
      await fixture.queue.cancel({ ids: [id] })
      expect(await next()).toBe('')
      await succeed(again!.lease)
      expect((await get(id)).status).toBe('canceled')
      expect(await next()).toBe('b')
      expect((await facts('gpu')).holders).toMatchObject([{ type: 't', workerId: 'w1', units: 1 }])
    })

    it('keeps no cancel from a worker whose turn finds no room in it', async () => {
      await set('gpu', { max: 1 })
      const id = await add('a', { gpu: 1 })
      await add('b', { gpu: 1 })
      const [held] = await claim(1)
      await fixture.queue.cancel({ ids: [id] })
      const { leases, cancelRequested } = await fixture.queue.turn({ worker: WORKER, want: 1 })
      expect([leases, cancelRequested]).toEqual([[], [held!.lease]])
    })

    it('starts as many tasks of a lane in one claim as it has room for, in their order', async () => {
      await set('gpu', { max: 7 })
      for (const [name, gpu] of Object.entries({ a: 2, b: 2, c: 1, d: 1, e: 3, f: 1 })) await add(name, { gpu })
      const leases = await claim(9)
      expect(names(leases)).toBe('a b c d')
      await succeed(leases[0]!.lease)
      expect(await next()).toBe('e')
      await succeed(leases[3]!.lease)
      expect(await next()).toBe('f')
    })

    it('starts no more tasks than the least room of several limits allows', async () => {
      await set('gpu', { max: 9 })
      await set('net', { max: 5, rate: { max: 7, perMs: 60_000 } })
      for (const name of ['a', 'b', 'c', 'd', 'e']) await add(name, { gpu: 1, net: 2 })
      const leases = await claim(9)
      expect(names(leases)).toBe('a b')
      expect((await facts('net')).inUse).toBe(4)
      for (const { lease } of leases) await succeed(lease)
      expect(await next()).toBe('c')
      expect((await facts('gpu')).inUse).toBe(1)
    })

    it.each([
      ['one lane', null, null],
      ['several lanes', 'a', 'b'],
    ])('gives the units of a task whose wait has ended to others in the same claim, in %s', async (_, one, other) => {
      await set('gpu', { max: 2, rate: { max: 2, perMs: 60_000 } })
      await add('late', { gpu: 2 }, { group: one, queueTimeoutMs: 700 })
      for (const group of [one, other]) await add('next', { gpu: 1 }, { group, queueTimeoutMs: 0 })
      fixture.now += 700
      expect(await next()).toBe('next next')
      expect((await facts('gpu')).inUse).toBe(2)
    })

    it('lets a lighter task of another lane start where a heavier one does not fit', async () => {
      await set('gpu', { max: 4 })
      await set('net', { max: 9 })
      await add('a', { gpu: 3 })
      await add('heavy', { gpu: 2 })
      await add('light', { gpu: 1, net: 1 })
      await add('later', { gpu: 1 })
      const leases = await claim(9)
      expect(names(leases)).toBe('a light')
      await succeed(leases[0]!.lease)
      expect(await next()).toBe('heavy later')
    })

    it('lets the next task of a lane start when the heavy one before it is canceled', async () => {
      await set('gpu', { max: 4 })
      await add('a', { gpu: 3 })
      const heavy = await add('heavy', { gpu: 2 })
      await add('light', { gpu: 1 })
      expect(await next()).toBe('a')
      await fixture.queue.cancel({ ids: [heavy] })
      expect(await next()).toBe('light')
    })

    it('wakes as many lanes as have room, one after the other, until all have run', async () => {
      await set('gpu', { max: 3 })
      const ids: string[] = []
      for (let index = 0; index < 40; index++) {
        ids.push(await add(`x${index}`, { gpu: 1 + (index % 3) }, { group: `g${index}`, type: index % 2 ? 't' : 'u' }))
      }
      const held = new Map<string, number>()
      for (let round = 0; round < 200 && ids.length > 0; round++) {
        for (const { lease, task } of await claim(5)) held.set(lease, task.uses.gpu!)
        const units = [...held.values()].reduce((sum, n) => sum + n, 0)
        expect(units).toBeLessThanOrEqual(3)
        expect(units).toBeGreaterThan(0)
        const [lease] = held.keys()
        const ended = (
          await fixture.queue.turn({
            worker: WORKER,
            want: 0,
            outcomes: [{ lease: lease!, outcome: { kind: 'success', result: null } }],
          })
        ).settled[0]!
        expect(ended.accepted).toBe(true)
        held.delete(lease!)
        ids.pop()
      }
      expect(await next()).toBe('')
      expect((await facts('gpu')).inUse).toBe(0)
    })

    it('wakes another lane when one that it has woken is blocked by a second limit', async () => {
      await set('gpu', { max: 1 })
      await set('net', { max: 1 })
      await add('holds net', { net: 1 })
      await add('holds gpu', { gpu: 1 }, { group: 'g' })
      const leases = await claim(9)
      await add('needs both', { gpu: 1, net: 1 })
      fixture.now += 1
      await add('needs gpu', { gpu: 1 })
      expect(await next()).toBe('')
      await succeed(leases.find(({ task }) => task.payload === 'holds gpu')!.lease)
      expect(await next()).toBe('needs gpu')
      expect(await next()).toBe('')
    })

    it('wakes lanes of one type while another type is paused', async () => {
      await set('gpu', { max: 1 })
      await add('first', { gpu: 1 })
      await add('u1', { gpu: 1 }, { type: 'u', priority: 9 })
      await add('t1', { gpu: 1 })
      await fixture.queue.configureType('u', { paused: true })
      const [first] = await claim(1)
      expect(await next()).toBe('')
      await succeed(first!.lease)
      const [second] = await claim(9)
      expect(second!.task.payload).toBe('t1')
      await fixture.queue.configureType('u', { paused: false })
      await succeed(second!.lease)
      expect(await next()).toBe('u1')
    })

    it('that is paused starts nothing until it is resumed, and other tasks go on', async () => {
      await set('gpu', { max: 5 })
      await set('gpu', { paused: true })
      await add('a', { gpu: 1 })
      await add('b', {})
      expect(await next()).toBe('b')
      expect(await facts('gpu')).toMatchObject({ paused: true, max: 5, waiting: 1, inUse: 0 })
      await set('gpu', { paused: false })
      expect(await next()).toBe('a')
    })

    it('wakes a turn that waits when units come back, and when it is changed', async () => {
      await fixture.opened.cleanup()
      await start({ clock: Date.now, leaseMs: 60_000 })
      await set('gpu', { max: 1 })
      await add('a', { gpu: 1 })
      await add('b', { gpu: 1 }, { type: 'u' })
      await add('c', { gpu: 1 })
      const wait = (id: string) => fixture.queue.turn({ worker: { ...WORKER, id }, want: 1, waitMs: 20_000 })
      const [first] = (await wait('w1')).leases
      const [second] = await Promise.all([wait('w2'), succeed(first!.lease)])
      expect(second.leases).toHaveLength(1)
      const [third] = await Promise.all([wait('w3'), set('gpu', { max: 2 })])
      expect(third.leases).toHaveLength(1)
    })
  })

  describe('the rate of a named limit', () => {
    it('counts units in any window, over all types', async () => {
      await set('tokens', { rate: { max: 100, perMs: 1_000 } })
      await add('a', { tokens: 60 })
      await add('b', { tokens: 50 }, { type: 'u' })
      await add('c', { tokens: 40 })
      const leases = await claim(9)
      expect(names(leases)).toBe('a c')
      for (const { lease } of leases) await succeed(lease)
      fixture.now += 400
      expect(await next()).toBe('')
      fixture.now += 599
      expect(await next()).toBe('')
      fixture.now += 1
      expect(await next()).toBe('b')
    })

    it.each<[string, LimitChange]>([
      ['rate', { rate: null }],
      ['limit of the name', { remove: true }],
    ])('counts no units from before it was set, as those of an earlier %s', async (_, ending) => {
      for (const name of ['a', 'b']) {
        await set('tokens', { rate: { max: 100, perMs: 60_000 } })
        await add(name, { tokens: 100 })
        const [lease] = await claim(9)
        expect(lease?.task.payload).toBe(name)
        await succeed(lease!.lease)
        await set('tokens', ending)
      }
    })

    it('counts what a key has started before it returns to the settings of all keys', async () => {
      await set('tenant/*', { rate: { max: 1, perMs: 60_000 } })
      await add('a', { 'tenant/x': 1 })
      await succeed((await claim())[0]!.lease)
      await set('tenant/x', { paused: true })
      await set('tenant/x', { remove: true })
      await add('b', { 'tenant/x': 1 })
      expect(await next()).toBe('')
      fixture.now += 60_000
      expect(await next()).toBe('b')
    })

    it('is corrected by the units that a task reports to have used', async () => {
      await set('tokens', { rate: { max: 100, perMs: 60_000 } })
      await add('a', { tokens: 90 })
      await add('b', { tokens: 50 })
      await add('c', { tokens: 50 })
      const [first] = await claim(9)
      const settle = (lease: string, usage: Uses) =>
        fixture.queue.turn({
          worker: WORKER,
          want: 0,
          outcomes: [{ lease, outcome: { kind: 'success', result: null, usage } }],
        })
      await settle(first!.lease, { tokens: 30, unknown: 7 })
      const [second] = await claim(9)
      expect(second!.task.payload).toBe('b')
      await settle(second!.lease, { tokens: 400 })
      expect(await next()).toBe('')
      fixture.now += 60_000
      expect(await next()).toBe('c')
    })

    it('is corrected for each of several starts at once, and only as long as they count', async () => {
      await set('tokens', { rate: { max: 100, perMs: 60_000 } })
      const settle = async (lease: string, tokens: number, want = 0) => {
        const outcomes = [{ lease, outcome: { kind: 'success', result: null, usage: { tokens } } as const }]
        return names((await fixture.queue.turn({ worker: WORKER, want, outcomes })).leases)
      }
      const one = async () => (await claim(1))[0]!.lease
      for (const name of ['a', 'b']) await add(name, { tokens: 40 })
      const [first, second] = await claim(9)
      await add('c', { tokens: 91 })
      await add('d', { tokens: 90 }, { group: 'd' })
      await settle(second!.lease, 0)
      expect(await settle(first!.lease, 10, 9)).toBe('d')
      fixture.now += 59_999
      expect(await next()).toBe('')
      fixture.now += 1
      const third = await one()
      await settle(third, 101)
      await add('e', { tokens: 1 })
      fixture.now += 59_999
      expect(await next()).toBe('')
      fixture.now += 1
      const fourth = await one()
      fixture.now += 60_000
      await settle(fourth, 100)
      await add('f', { tokens: 100 })
      expect(await next()).toBe('f')
    })

    it('opens again by time for a lane that a full claim has set aside', async () => {
      await set('tokens', { rate: { max: 1, perMs: 1_000 } })
      for (const name of ['a', 'b']) await add(name, { tokens: 1 }, { group: name })
      await add('c', {})
      const leases = await claim(2)
      expect(names(leases)).toBe('a c')
      for (const { lease } of leases) await succeed(lease)
      expect(await next()).toBe('')
      fixture.now += 1_000
      expect(await next()).toBe('b')
    })

    it('opens again by time for a turn that waits', async () => {
      await fixture.opened.cleanup()
      await start({ clock: Date.now })
      await set('tokens', { rate: { max: 1, perMs: 200 } })
      for (const name of ['a', 'b', 'c']) await add(name, { tokens: 1 }, { group: name })
      const started: number[] = []
      for (let index = 0; index < 3; index++) {
        const { leases } = await fixture.queue.turn({ worker: WORKER, want: 9, waitMs: 20_000 })
        expect(leases).toHaveLength(1)
        started.push(leases[0]!.task.startedAt!)
      }
      expect(started[1]! - started[0]!).toBeGreaterThanOrEqual(200)
      expect(started[2]! - started[1]!).toBeGreaterThanOrEqual(200)
    })
  })
}
