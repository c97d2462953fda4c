import { getEventListeners } from 'node:events'
import { describe, expect, it, vi } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type Fixture, WORKER } from './fixture.ts'

export function turnContract(fixture: Fixture): void {
  const { limit, submit, claim, succeed, fail, get } = fixture

  describe('turn', () => {
    it('claims by priority, then by age', async () => {
      const ids: string[] = []
      for (const priority of [0, 5, 0, 9, 5]) ids.push((await submit({ priority })).id)
      const leases = await claim(10)
      expect(leases.map(({ task }) => task.id)).toEqual([3, 1, 4, 0, 2].map((index) => ids[index]))
    })

    it('claims a delayed task at its time without a sweep, and not before', async () => {
      const { id } = await submit({ delayMs: 5_000 })
      expect((await get(id)).status).toBe('pending')
      fixture.now += 4_999
      expect(await claim()).toEqual([])
      fixture.now += 1
      expect((await claim())[0]!.task.id).toBe(id)
    })

    it('claims a task that has become due before one that is submitted after that', async () => {
      const due = await submit({ delayMs: 1_000 })
      fixture.now += 1_000
      const later = await submit()
      expect((await claim(9)).map(({ task }) => task.id)).toEqual([due.id, later.id])
    })

    it('never claims beyond the limit, and claims again when permits are released', async () => {
      await limit('t', 2)
      for (let index = 0; index < 5; index++) await submit()
      const leases = await claim(10)
      expect(leases).toHaveLength(2)
      expect(await claim(10)).toHaveLength(0)
      await succeed(leases[0]!.lease)
      expect(await claim(10)).toHaveLength(1)
      const [info] = await fixture.queue.types({ names: ['t'], holders: true })
      expect(info!.holders).toHaveLength(2)
    })

    it('hands out tokens that cannot be guessed from public data', async () => {
      await submit()
      const { id } = await submit()
      const [other] = await claim(1, { ...WORKER, id: 'other' })
      const [lease] = await claim()
      expect(lease!.task.id).toBe(id)
      // Another worker knows its own token, and by the scope `read` the task, its deliveries and its start.
      const { deliveries, startedAt } = await get(id)
      const secretOf = (token: string) => token.slice(token.lastIndexOf('.') + 1)
      const guesses = [deliveries, `${deliveries}${startedAt}`, secretOf(other!.lease)].map((guess) => `${id}.${guess}`)
      for (const guess of guesses) {
        expect(await succeed(guess)).toEqual({ accepted: false, status: null })
        const { renewed } = await fixture.queue.turn({ worker: WORKER, want: 0, renewals: [{ lease: guess }] })
        expect(renewed).toEqual([null])
      }
      expect(await succeed(lease!.lease)).toEqual({ accepted: true, status: 'success' })
      // 96 bits are 29 digits.
      for (const token of [other!, lease!]) expect(secretOf(token.lease).length).toBeGreaterThanOrEqual(30)
    })

    it('shows no lease tokens in tasks, holders, events, explanations or lists', async () => {
      const { id } = await submit()
      const [lease] = await claim()
      const { queue } = fixture
      const shown = await Promise.all([
        queue.get([id]),
        queue.list({ limit: 10 }),
        queue.explain(id),
        queue.types({ holders: true }),
        queue.workers(),
        queue.stats(),
        queue.events({ after: '', max: 100 }),
      ])
      const secret = lease!.lease.slice(lease!.lease.lastIndexOf('.') + 2)
      expect(JSON.stringify(shown)).not.toContain(secret)
      await fail(lease!.lease, { retry: false })
      expect(JSON.stringify([await get(id), await queue.events({ after: '', max: 100 })])).not.toContain(secret)
    })

    it('gives a task one final status: a second outcome is refused and changes nothing', async () => {
      const { id } = await submit()
      const [lease] = await claim()
      expect(await succeed(lease!.lease, 7)).toEqual({ accepted: true, status: 'success' })
      expect(await fail(lease!.lease)).toEqual({ accepted: false, status: null })
      expect(await get(id)).toMatchObject({ status: 'success', result: 7, attempts: 1, deliveries: 1 })
    })

    it('retries a failure after its back-off, and fails it for good after the last', async () => {
      const { id } = await submit({ maxRetry: 1 })
      await fail((await claim())[0]!.lease)
      expect(await get(id)).toMatchObject({ status: 'pending', attempts: 1, runAt: fixture.now + 1_000, error: 'no' })
      expect(await claim()).toEqual([])
      fixture.now += 1_000
      await fail((await claim())[0]!.lease)
      expect(await get(id)).toMatchObject({ status: 'failed', attempts: 2, completedAt: fixture.now })
    })

    it('honours "do not retry" and "retry after"', async () => {
      const one = await submit()
      await fail((await claim())[0]!.lease, { retry: false })
      expect((await get(one.id)).status).toBe('failed')
      const two = await submit()
      await fail((await claim())[0]!.lease, { delayMs: 60_000 })
      expect((await get(two.id)).runAt).toBe(fixture.now + 60_000)
    })

    it('takes back a released task without an attempt', async () => {
      const { id } = await submit()
      const [lease] = await claim()
      const outcomes = [{ lease: lease!.lease, outcome: { kind: 'released' } as const }]
      await fixture.queue.turn({ worker: WORKER, want: 0, outcomes })
      expect(await get(id)).toMatchObject({ status: 'pending', attempts: 0, deliveries: 1, runAt: fixture.now })
    })

    it('ends a task that waited too long, but never after its first start', async () => {
      const { id } = await submit({ queueTimeoutMs: 1_000, maxRetry: 5 })
      const started = await submit({ queueTimeoutMs: 1_000, priority: 9 })
      await fail((await claim())[0]!.lease, { delayMs: 10_000 })
      fixture.now += 1_000
      expect(await claim()).toEqual([])
      expect(await get(id)).toMatchObject({ status: 'timeout', timeoutReason: 'queue_wait', attempts: 0 })
      fixture.now += 10_000
      expect((await claim())[0]!.task.id).toBe(started.id)
    })

    it.each([
      ['of one lane', [{}, {}], {}],
      ['of several types', [{}, { type: 'u' }], {}],
      ['of several groups', [{ group: 'a' }, { group: 'b' }], {}],
      ['of the groups that it names', [{ group: 'a' }, { group: 'b' }], { groups: ['b', 'a'] }],
    ])('claims tasks %s in place of those whose wait has ended', async (_, specs, more) => {
      for (const spec of [...specs, ...specs]) await submit({ ...spec, queueTimeoutMs: 1_000 })
      const ids: string[] = []
      for (const spec of specs) ids.push((await submit({ ...spec, queueTimeoutMs: 0 })).id)
      fixture.now += 1_000
      const { leases } = await fixture.queue.turn({ worker: WORKER, want: 2, ...more })
      expect(leases.map(({ task }) => task.id).sort()).toEqual(ids.sort())
    })

    it('wakes a waiting turn after a submission, a released permit, a resume and a raised limit', async () => {
      const wait = () => fixture.queue.turn({ worker: WORKER, want: 1, waitMs: 20_000 })
      await limit('t', 1)
      const [bySubmit] = await Promise.all([wait(), submit()])
      expect(bySubmit.leases).toHaveLength(1)
      await submit()
      const [byPermit] = await Promise.all([wait(), succeed(bySubmit.leases[0]!.lease)])
      expect(byPermit.leases).toHaveLength(1)
      await submit()
      const [byLimit] = await Promise.all([wait(), fixture.queue.configureType('t', { maxConcurrency: 2 })])
      expect(byLimit.leases).toHaveLength(1)
      await fixture.queue.configureType('t', { maxConcurrency: null, paused: true })
      await submit()
      const [byResume] = await Promise.all([wait(), fixture.queue.configureType('t', { paused: false })])
      expect(byResume.leases).toHaveLength(1)
    })

    it('declares the types of its worker without a handler, and hands out their tasks', async () => {
      const second = await fixture.opened.second()
      const worker = { ...WORKER, id: 'elsewhere', types: ['new', 'newer'] }
      const waiting = fixture.queue.turn({ worker, want: 1, waitMs: 20_000 })
      const [submitted] = await vi.waitFor(() => second.submit([completeSpec({ type: 'new' })]), 10_000)
      expect((await waiting).leases.map(({ task }) => task.id)).toEqual([submitted!.task.id])
      expect(await second.types({ names: ['new'] })).toMatchObject([
        { processing: 1, maxConcurrency: null, groupConcurrency: null, rate: null, paused: false, declared: false },
      ])
      expect(await second.configureType('newer', { maxConcurrency: 1 })).toMatchObject({ maxConcurrency: 1 })
      await second.submit([completeSpec({ type: 'newer' }), completeSpec({ type: 'newer' })])
      const [lease, ...more] = await claim(5, worker)
      expect(more).toEqual([])
      // Its failures are retried as those of a declared type.
      await submit()
      const [delayed] = await claim()
      for (const { lease: token } of [lease!, delayed!]) expect(await fail(token)).toMatchObject({ status: 'pending' })
      const [first, other] = await fixture.queue.get([lease!.task.id, delayed!.task.id])
      expect(first!.runAt).toBe(other!.runAt)
      expect(first!.runAt).toBeGreaterThan(fixture.now)
    })

    it('ends a wait when its signal fires, and loses nothing', async () => {
      const stop = new AbortController()
      const waiting = fixture.queue.turn({ worker: WORKER, want: 1, waitMs: 20_000, signal: stop.signal })
      setImmediate(() => stop.abort())
      expect((await waiting).leases).toEqual([])
      await submit()
      expect(await claim()).toHaveLength(1)
    })

    it('leaves nothing on a signal that outlives the wait', async () => {
      const { signal } = new AbortController()
      await fixture.queue.turn({ worker: WORKER, want: 1, waitMs: 1, signal })
      expect(getEventListeners(signal, 'abort')).toEqual([])
    })

    it('keeps the last progress that arrives with the outcome', async () => {
      const { id } = await submit()
      const { lease } = (await claim())[0]!
      const outcomes = [{ lease, outcome: { kind: 'success', result: null } as const }]
      await fixture.queue.turn({ worker: WORKER, want: 0, outcomes, renewals: [{ lease, progress: 100 }] })
      expect(await get(id)).toMatchObject({ status: 'success', progress: 100 })
    })

    it('runs each task once and never exceeds the limit', async () => {
      const other = await fixture.opened.second()
      await limit('t', 7)
      await fixture.queue.submit(Array.from({ length: 300 }, () => completeSpec({ type: 't' })))
      const done: string[] = []
      const work = async (on: Queue, index: number) => {
        const worker = { ...WORKER, id: `w${index}`, types: ['t'] }
        let outcomes: { lease: string; outcome: { kind: 'success'; result: null } }[] = []
        while (done.length < 300) {
          const answer = await on.turn({ worker, want: 3, outcomes, waitMs: 20 })
          for (const { accepted } of answer.settled) expect(accepted).toBe(true)
          done.push(...outcomes.map(({ lease }) => lease))
          const [info] = await on.types({ names: ['t'] })
          expect(info!.processing).toBeLessThanOrEqual(7)
          outcomes = answer.leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } }))
        }
      }
      await Promise.all(Array.from({ length: 8 }, (_, index) => work(index % 2 ? other : fixture.queue, index)))
      expect(new Set(done).size).toBe(300)
      expect((await fixture.queue.stats()).counts).toMatchObject({ success: 300, processing: 0, pending: 0 })
    })
  })
}
