import { describe, expect, it } from 'vitest'
import { FOLLOWED_MAX, LATE_READER_MS } from '../../src/store/options.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type Fixture, WORKER } from './fixture.ts'

/** Everything that a reader from the beginning receives, page by page. */
async function allEvents(fixture: Fixture) {
  const reported = []
  for (let after = ''; ; ) {
    const page = await fixture.queue.events({ after, max: 100 })
    if (page.events.length === 0) return reported
    reported.push(...page.events)
    after = page.last
  }
}

export function eraseContract(fixture: Fixture): void {
  const { start, submit, claim, succeed, get } = fixture
  const erase = async (id: string) => (await fixture.queue.erase([id])).results[0]!

  describe('erase', () => {
    it('erases a finished task: the task, its idempotency key and the contents of its events', async () => {
      const key = { payload: 'secret-1', idempotencyKey: 'k', tags: { a: 'b' } }
      const { id } = await submit(key)
      const other = await submit()
      const [one, two] = await claim(2)
      await fixture.queue.turn({
        worker: WORKER,
        want: 0,
        renewals: [{ lease: one!.lease, progress: { at: 'secret-2' } }],
      })
      const results = ['secret-3', { big: 1, list: ['a,]"', {}] }]
      const outcomes = [one!, two!].map(({ lease }, at) => ({
        lease,
        outcome: { kind: 'success', result: results[at]! } as const,
      }))
      await fixture.queue.turn({ worker: WORKER, want: 0, outcomes })
      expect(await erase(id)).toEqual({ id, outcome: 'changed', task: null })
      expect((await fixture.queue.get([id]))[0]).toBeNull()
      expect((await fixture.queue.stats()).counts.success).toBe(1)
      const contents = (await allEvents(fixture)).flatMap((event) =>
        event.taskId === id ? [event.progress, event.result, event.error] : [],
      )
      expect(contents.filter((content) => content !== null)).toEqual([])
      fixture.now += LATE_READER_MS + 1
      const reported = await allEvents(fixture)
      expect(reported.filter(({ taskId }) => taskId === id).map(({ kind, status }) => [kind, status])).toEqual([
        ['removed', 'success'],
      ])
      expect(
        reported.filter(({ taskId }) => taskId === other.id).map(({ status, result }) => [status, result]),
      ).toEqual([
        ['pending', null],
        ['processing', null],
        ['success', results[1]],
      ])
      const again = await fixture.queue.submit([completeSpec({ type: 't', ...key, payload: 'another' })])
      expect(again[0]!.existing).toBe(false)
    })

    it('refuses an unfinished task, and reports an unknown one', async () => {
      const waiting = await submit({ priority: 1 })
      const delayed = await submit({ delayMs: 1_000_000 })
      const [running] = await claim()
      expect(running!.task.id).toBe(waiting.id)
      const next = await submit()
      for (const id of [waiting.id, delayed.id, next.id]) {
        expect(await erase(id)).toMatchObject({ outcome: 'refused', task: { id } })
      }
      expect(await erase('none')).toEqual({ id: 'none', outcome: 'unknown', task: null })
      await succeed(running!.lease, 7)
      expect((await erase(waiting.id)).outcome).toBe('changed')
      expect((await erase(waiting.id)).outcome).toBe('unknown')
    })

    it('blanks the copies of its result in its successors, also of other types', async () => {
      const { id } = await submit()
      const early = await submit({ type: 'u', after: [id] })
      await succeed((await claim())[0]!.lease, 5)
      while ((await fixture.queue.sweep(100)).more);
      const late = await submit({ after: [id], priority: 0 })
      expect((await erase(id)).outcome).toBe('changed')
      const leases = await claim(2)
      const predecessors = leases.map(({ task, predecessors }) => [task.id, predecessors] as const)
      const blank = [{ id, type: 't', status: 'success', result: null, error: null }]
      expect(new Map(predecessors)).toEqual(
        new Map([
          [early.id, blank],
          [late.id, blank],
        ]),
      )
    })

    it('blanks the copies of large results, also in a running task', async () => {
      const tasks = [await submit(), await submit()]
      const after = tasks.map(({ id }) => id)
      const early = await submit({ type: 'u', after })
      for (const { lease } of await claim(2)) {
        const outcome = { kind: 'success', result: 'x'.repeat(600_000) } as const
        await fixture.queue.turn({ worker: fixture.worker, want: 0, outcomes: [{ lease, outcome }] })
      }
      for (let step = 0; step < 5; step++) while ((await fixture.queue.sweep(100)).more);
      const late = await submit({ after })
      const leases = await claim(2)
      expect(leases.map(({ task }) => task.id).sort()).toEqual([early.id, late.id].sort())
      for (const { predecessors } of leases)
        expect(predecessors.map(({ omitted }) => omitted)).toEqual([undefined, true])
      for (const id of after) expect((await erase(id)).outcome).toBe('changed')
      for (const { lease } of leases) {
        for (const id of after) {
          const blank = { id, type: 't', status: 'success', result: null, error: null }
          expect(await fixture.queue.predecessor(lease, id)).toEqual(blank)
        }
      }
    })

    it('cancels successors that wait for its retry', async () => {
      const { id } = await submit({ maxRetry: 0 })
      const waiting = await submit({ after: [id], onFailure: 'wait' })
      await fixture.fail((await claim())[0]!.lease, { retry: false })
      expect((await erase(id)).outcome).toBe('changed')
      expect((await get(waiting.id)).status).toBe('canceled')
    })

    it('erases many tasks at once, also those of which more have copies than one step changes', async () => {
      const few = Array.from({ length: 120 }, () => completeSpec({ type: 't', payload: 'few', priority: 1 }))
      const tasks = (await fixture.queue.submit(few)).map(({ task }) => task.id)
      for (const [n, { lease }] of (await claim(120)).entries()) await succeed(lease, n)
      const [first, second] = [tasks[10]!, tasks[20]!]
      const copies = Array.from({ length: FOLLOWED_MAX }, (_, n) =>
        completeSpec({ type: 't', delayMs: 60_000, after: n % 2 === 0 ? [first] : [first, second] }),
      )
      const successors = (await fixture.queue.submit(copies)).map(({ task }) => task.id)
      const waiting = await submit({ delayMs: 60_000 })
      const asked = [...tasks.slice(0, 60), waiting.id, 'none', ...tasks.slice(60)]
      const { results } = await fixture.queue.erase(asked)
      const wanted = asked.map((id) => ({ [waiting.id]: 'refused', none: 'unknown' })[id] ?? 'changed')
      expect(results.map(({ id, outcome }) => [id, outcome])).toEqual(asked.map((id, at) => [id, wanted[at]]))
      expect((await fixture.queue.get(tasks)).filter((task) => task !== null)).toEqual([])
      fixture.now += 60_000
      await fixture.queue.sweep(10_000)
      for (const { task, predecessors } of await claim(50)) {
        expect(successors).toContain(task.id)
        const blank = task.after.map(() => [null, 'success'])
        expect(predecessors.map(({ result, status }) => [result, status])).toEqual(blank)
      }
    })
  })

  describe('events of removed tasks', () => {
    it('are not sent again to any reader, also page by page', async () => {
      await fixture.opened.cleanup()
      await start({ retention: { ageMs: LATE_READER_MS, countMax: 100 }, eventsAgeMs: 1e9 })
      for (let n = 0; n < 5; n++) await submit()
      for (const { lease } of await claim(5)) await succeed(lease, 42)
      fixture.now += 5_000
      const kept = await submit()
      await fixture.fail((await claim())[0]!.lease, { retry: false })
      const reader = { name: 'r', owner: 'o', leaseMs: 1_000_000 }
      await fixture.queue.events({ after: null, max: 1, reader })
      fixture.now += LATE_READER_MS - 4_999
      while ((await fixture.queue.sweep(100)).more);
      const reported = []
      for (let after = ''; ; ) {
        const page = await fixture.queue.events({ after, max: 2 })
        if (page.events.length === 0) break
        reported.push(...page.events)
        after = page.last
      }
      const ofKept = reported.filter(({ taskId }) => taskId === kept.id)
      expect(ofKept.map(({ status }) => status)).toEqual(['pending', 'processing', 'failed'])
      expect(reported.filter((event) => !ofKept.includes(event)).map(({ kind, result }) => [kind, result])).toEqual(
        Array.from({ length: 5 }, () => ['removed', null]),
      )
      const named = await fixture.queue.events({ after: null, max: 100, reader })
      expect(named.events.every(({ kind }) => kind === 'removed')).toBe(true)
    })

    it('reach a reader that lags by a moment, although retention removes tasks at their end', async () => {
      await fixture.opened.cleanup()
      await start({ retention: { ageMs: 1, countMax: 1 } })
      for (let n = 0; n < 5; n++) await submit()
      for (const { lease } of await claim(5)) await succeed(lease, 42)
      fixture.now += 1_000
      while ((await fixture.queue.sweep(100)).more);
      expect((await fixture.queue.stats()).counts.success).toBe(0)
      const ended = (await allEvents(fixture)).filter(({ kind, status }) => kind === 'status' && status === 'success')
      expect(ended.map(({ result }) => result)).toEqual([42, 42, 42, 42, 42])
    })
  })
}
