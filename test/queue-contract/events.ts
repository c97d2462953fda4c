import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import type { EventsPage } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import type { Fixture } from './fixture.ts'

export function eventsContract(fixture: Fixture): void {
  const { start, submit, claim, succeed } = fixture

  describe('events', () => {
    it('drops events by their age, except the newest', async () => {
      await fixture.opened.cleanup()
      await fixture.start({ eventsAgeMs: 60_000 })
      await fixture.submit()
      fixture.now += 30_000
      const { id } = await fixture.submit()
      fixture.now += 30_000
      await fixture.queue.sweep(100)
      const kept = async () => (await fixture.queue.events({ after: '', max: 100 })).events.map(({ taskId }) => taskId)
      expect(await kept()).toEqual([id])
      fixture.now += 60_000
      await fixture.queue.sweep(100)
      expect(await kept()).toEqual([id])
      const task = await fixture.submit()
      await fixture.queue.sweep(100)
      expect(await kept()).toEqual([task.id])
    })

    it('drops events by their bytes, except the newest', async () => {
      await fixture.opened.cleanup()
      await start({ eventsBytesMax: 200_000, eventsMax: 1_000_000 })
      for (let n = 0; n < 50; n++) {
        await submit()
        await fixture.queue.turn({
          worker: fixture.worker,
          want: 0,
          outcomes: [{ lease: (await claim())[0]!.lease, outcome: { kind: 'success', result: 'ü'.repeat(5_000) } }],
        })
      }
      while ((await fixture.queue.sweep(100)).more);
      const events = []
      for (let after = ''; ; ) {
        const page = await fixture.queue.events({ after, max: 1_000 })
        if (page.events.length === 0) break
        events.push(...page.events)
        after = page.last
      }
      const bytes = events.reduce((sum, { result }) => sum + Buffer.byteLength(String(result ?? '')), 0)
      expect(bytes).toBeLessThanOrEqual(200_000)
      // Where two types are apart, each has half of the room; an entry takes some more than 10 kB.
      expect(bytes).toBeGreaterThanOrEqual(80_000)
      expect(events.at(-1)!.status).toBe('success')
    })

    it('sends each change once, in order, to a reader that waits or resumes', async () => {
      const { last } = await fixture.queue.events({ after: null, max: 10 })
      const waiting = fixture.queue.events({ after: last, max: 10, waitMs: 20_000 })
      const { id } = await submit()
      expect((await waiting).events.map(({ status }) => status)).toEqual(['pending'])
      await succeed((await claim())[0]!.lease, 5)
      const page = await fixture.queue.events({ after: last, max: 10 })
      expect(page.events.map(({ taskId, status, result }) => [taskId, status, result])).toEqual([
        [id, 'pending', null],
        [id, 'processing', null],
        [id, 'success', 5],
      ])
      expect((await fixture.queue.events({ after: page.events[1]!.id, max: 10 })).events).toHaveLength(1)
    })

    it('leaves nothing on a signal that outlives the wait', async () => {
      const { signal } = new AbortController()
      const read = (more: object) => fixture.queue.events({ after: null, max: 1, ...more })
      await read({ waitMs: 100, signal })
      for (const owner of ['holder', 'waiting']) {
        await read({ reader: { name: 's', owner, leaseMs: 1_000 }, waitMs: 100, signal })
      }
      expect(getEventListeners(signal, 'abort')).toEqual([])
    })

    it('are not waited for with a signal that has aborted', async () => {
      const { last } = await fixture.queue.events({ after: null, max: 1 })
      const signal = AbortSignal.abort()
      expect((await fixture.queue.events({ after: last, max: 1, waitMs: 600_000, signal })).events).toEqual([])
    })

    it('reports a gap to a reader that fell behind', async () => {
      await fixture.opened.cleanup()
      await start({ eventsMax: 5 })
      await submit()
      const [first] = (await fixture.queue.events({ after: '', max: 1 })).events
      for (let index = 0; index < 20; index++) await submit()
      await fixture.queue.sweep(1_000)
      expect((await fixture.queue.events({ after: first!.id, max: 100 })).gap).toBe(true)
      expect((await fixture.queue.events({ after: 'nowhere', max: 100 })).gap).toBe(true)
      expect((await fixture.queue.events({ after: '', max: 100 })).gap).toBe(false)
      const { last } = await fixture.queue.events({ after: null, max: 1 })
      expect((await fixture.queue.events({ after: last, max: 1 })).gap).toBe(false)
    })

    it('reports a gap as soon as one event is missing', async () => {
      await fixture.opened.cleanup()
      await start({ eventsMax: 5 })
      for (let index = 0; index < 10; index++) await submit()
      const all = (await fixture.queue.events({ after: '', max: 100 })).events
      await fixture.queue.sweep(1_000)
      const kept = (await fixture.queue.events({ after: '', max: 100 })).events
      expect(kept.length).toBeLessThan(all.length - 2)
      const readWithout = (missing: number) =>
        fixture.queue.events({ after: all.at(-kept.length - missing - 1)!.id, max: 100 })
      expect(await readWithout(0)).toMatchObject({ events: kept, gap: false })
      expect((await readWithout(1)).gap).toBe(true)
    })

    it.each(['1.5', '0x1', '1e0', '-1', '+1', ' 1', '9'.repeat(16)])(
      'reports a gap at %j, which is no position of the store, and continues with the newest',
      async (after) => {
        for (let index = 0; index < 3; index++) await submit()
        const { last } = await fixture.queue.events({ after: null, max: 1 })
        expect(await fixture.queue.events({ after, max: 100 })).toMatchObject({ events: [], last, gap: true })
      },
    )

    it('reports that retention has removed a task', async () => {
      await fixture.opened.cleanup()
      await start({ retention: { ageMs: 10_000, countMax: 100 } })
      const { id } = await submit()
      await succeed((await claim())[0]!.lease, 5)
      const { last } = await fixture.queue.events({ after: null, max: 1 })
      fixture.now += 10_001
      await fixture.queue.sweep(100)
      const { events } = await fixture.queue.events({ after: last, max: 10 })
      expect(events).toMatchObject([{ kind: 'removed', taskId: id, type: 't', status: 'success', result: null }])
    })

    describe('of a named reader', () => {
      const reader = (owner: string, leaseMs = 1_000) => ({ name: 'r', owner, leaseMs })
      const read = (owner: string, after: string | null = null, more: object = {}) =>
        fixture.queue.events({ after, max: 100, reader: reader(owner), ...more })
      const ids = (page: EventsPage) => page.events.map(({ taskId }) => taskId)

      it('starts at the present, and keeps its position until the events are committed', async () => {
        await submit()
        const first = await read('a')
        expect([first.held, first.events]).toEqual([true, []])
        const { id } = await submit()
        const page = await read('a')
        expect(ids(page)).toEqual([id])
        expect(ids(await read('a'))).toEqual([id])
        expect(ids(await read('a', page.last))).toEqual([])
        expect(ids(await read('a'))).toEqual([])
      })

      it('has a position from the first call on, also if that call only released the lease', async () => {
        await read('a', null, { reader: reader('a', 0) })
        const { id } = await submit()
        expect(ids(await read('b'))).toEqual([id])
      })

      it('waits for the next event, also when another process writes it', async () => {
        const { last } = await read('a')
        const waiting = read('a', last, { reader: reader('a', 40_000), waitMs: 20_000 })
        const second = await fixture.opened.second()
        const [submitted] = await second.submit([completeSpec({ type: 't' })])
        expect(ids(await waiting)).toEqual([submitted!.task.id])
      })

      it('is held by one owner until its lease ends; the next owner reads uncommitted events', async () => {
        await read('a')
        const { id: one } = await submit()
        const { id: two } = await submit()
        const page = await read('a')
        await read('a', page.events[0]!.id)
        expect(await read('b')).toMatchObject({ held: false, events: [] })
        fixture.now += 999
        expect((await read('b')).held).toBe(false)
        fixture.now += 1
        const taken = await read('b')
        expect([taken.held, ids(taken)]).toEqual([true, [two]])
        expect(ids(page)).toEqual([one, two])
        expect(await read('a', page.last)).toMatchObject({ held: false, events: [] })
      })

      it('refuses the commit of an owner that has lost the lease', async () => {
        await read('a')
        const { id: one } = await submit()
        const { id: two } = await submit()
        const old = await read('a')
        fixture.now += 1_000
        const taken = await read('b')
        await read('b', taken.events[0]!.id, { reader: reader('b', 0) })
        const again = await read('a', old.last)
        expect([again.held, ids(again)]).toEqual([true, [two]])
        expect(ids(old)).toEqual([one, two])
      })

      it('renews the lease of an owner that continues to read', async () => {
        for (let step = 0; step < 4; step++) {
          expect((await read('a')).held).toBe(true)
          fixture.now += 900
          expect((await read('b')).held).toBe(false)
        }
      })

      it('passes to a waiting reader when its owner releases it, also in another process', async () => {
        await read('a')
        const { id: one } = await submit()
        const { id: two } = await submit()
        const page = await read('a')
        const second = await fixture.opened.second()
        const waiting = second.events({ after: null, max: 100, reader: reader('b'), waitMs: 20_000 })
        const released = await read('a', page.events[0]!.id, { reader: reader('a', 0) })
        expect(released).toMatchObject({ held: false, events: [] })
        const taken = await waiting
        expect([taken.held, ids(taken)]).toEqual([true, [two]])
        expect(ids(page)).toEqual([one, two])
      })

      it('has a name; readers with other names have their own positions', async () => {
        await read('a')
        await read('a', null, { reader: { name: 's', owner: 'b', leaseMs: 1_000 } })
        const { id } = await submit()
        expect(ids(await read('a', (await read('a')).last))).toEqual([])
        const other = await read('a', null, { reader: { name: 's', owner: 'b', leaseMs: 1_000 } })
        expect([other.held, ids(other)]).toEqual([true, [id]])
      })

      it('ends its wait when its signal fires', async () => {
        await read('a')
        const stop = new AbortController()
        const waiting = read('b', null, { waitMs: 20_000, signal: stop.signal })
        stop.abort()
        expect(await waiting).toMatchObject({ held: false, events: [] })
      })

      it('receives a gap for removed events that it has not read; below the bound they are kept', async () => {
        await fixture.opened.cleanup()
        await start({ eventsMax: 5 })
        await read('a')
        for (let index = 0; index < 4; index++) await submit()
        await fixture.queue.sweep(1_000)
        const kept = await read('a')
        expect([kept.gap, kept.events.length]).toEqual([false, 4])
        for (let index = 0; index < 20; index++) await submit()
        await fixture.queue.sweep(1_000)
        const late = await read('a')
        expect(late.gap).toBe(true)
        expect((await read('a', late.last)).gap).toBe(false)
      })
    })
  })
}
