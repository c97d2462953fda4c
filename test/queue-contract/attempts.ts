import { describe, expect, it } from 'vitest'
import type { Outcome } from '../../src/task/outcome.ts'
import { type Fixture, WORKER } from './fixture.ts'

export function attemptsContract(fixture: Fixture): void {
  const { submit, claim, succeed, fail } = fixture
  const of = async (id: string) => (await fixture.queue.attempts(id))!
  const outcomesOf = async (id: string) => (await of(id)).attempts.map(({ outcome }) => outcome)
  const settle = (lease: string, outcome: Outcome) =>
    fixture.queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease, outcome }] })
  /** Claims the next task once its back-off has passed. */
  const next = async () => {
    fixture.now += 1_000_000
    await fixture.queue.sweep(100)
    return (await claim())[0]!.lease
  }

  describe('attempts', () => {
    it('lists each attempt with its worker, times, outcome and error, and the present one last', async () => {
      const { id } = await submit()
      expect(await of(id)).toMatchObject({ task: { id }, attempts: [], leftOut: 0 })
      const [one] = await claim()
      const startedAt = fixture.now
      const common = { number: 1, delivery: 1, workerId: WORKER.id, startedAt }
      expect((await of(id)).attempts).toEqual([{ ...common, outcome: 'running', endedAt: null, error: null }])
      fixture.now += 10
      await fail(one!.lease, { error: 'Error: first\n[cause]: "why"' })
      const first = { ...common, outcome: 'failed', endedAt: startedAt + 10, error: 'Error: first\n[cause]: "why"' }
      expect((await of(id)).attempts).toEqual([first])
      const two = await next()
      const second = { ...common, number: 2, delivery: 2, startedAt: fixture.now }
      const running = { ...second, outcome: 'running', endedAt: null, error: null }
      expect((await of(id)).attempts).toEqual([first, running])
      await succeed(two)
      expect((await of(id)).attempts).toEqual([
        first,
        { ...second, outcome: 'success', endedAt: fixture.now, error: null },
      ])
      expect(await fixture.queue.attempts('none')).toBeNull()
    })

    it('names how each one ended that counts, and the end of the task', async () => {
      const { id } = await submit({ maxRetry: 2, processTimeoutMs: 500, queueTimeoutMs: 0 })
      await fail((await claim())[0]!.lease)
      const late = await next()
      fixture.now += 500
      await settle(late, { kind: 'timeout' })
      await next()
      expect(await outcomesOf(id)).toEqual(['failed', 'timeout', 'running'])
      fixture.now += 501
      await fixture.queue.sweep(100)
      expect(await outcomesOf(id)).toEqual(['failed', 'timeout', 'timeout'])
      expect((await fixture.get(id)).status).toBe('timeout')
    })

    it('counts an attempt only if its handler ended or timed out', async () => {
      const { id } = await submit({ processTimeoutMs: 0 })
      await claim()
      fixture.now += 1_001
      await fixture.queue.sweep(100)
      await settle((await claim())[0]!.lease, { kind: 'released' })
      await settle((await claim())[0]!.lease, { kind: 'held', error: 'busy', holdMs: 1_000 })
      fixture.now += 1_001
      await fail((await claim())[0]!.lease, { retry: false })
      expect(
        (await of(id)).attempts.map(({ number, delivery, outcome, error }) => [number, delivery, outcome, error]),
      ).toEqual([
        [1, 1, 'lost', null],
        [1, 2, 'released', null],
        [1, 3, 'held', 'busy'],
        [1, 4, 'failed', 'no'],
      ])
    })

    it('shows holds that follow each other as one, so that they do not push out failures', async () => {
      const { id } = await submit({ queueTimeoutMs: 0 })
      await fail((await claim())[0]!.lease)
      fixture.now += 1_000_000
      for (let n = 0; n < 30; n++) {
        await settle((await claim())[0]!.lease, { kind: 'held', error: `hold ${n}`, holdMs: 1_000 })
        fixture.now += 1_001
      }
      const { attempts, leftOut } = await of(id)
      expect(attempts.map(({ delivery, outcome, error }) => [delivery, outcome, error])).toEqual([
        [1, 'failed', 'no'],
        [31, 'held', 'hold 29'],
      ])
      expect(leftOut).toBe(0)
    })

    it('keeps the last 20, and says how many are gone', async () => {
      const { id } = await submit({ maxRetry: 100, queueTimeoutMs: 0 })
      await fail((await claim())[0]!.lease, { error: 'attempt 1' })
      for (let n = 2; n <= 25; n++) await fail(await next(), { error: `attempt ${n}` })
      const { attempts, leftOut } = await of(id)
      expect(attempts.map(({ error }) => error)).toEqual(Array.from({ length: 20 }, (_, n) => `attempt ${n + 6}`))
      expect(leftOut).toBe(5)
    })

    it('bounds the bytes of a task, and keeps the last one whatever its size', async () => {
      const { id } = await submit({ maxRetry: 100, queueTimeoutMs: 0 })
      const error = 'é'.repeat(16_000)
      await fail((await claim())[0]!.lease, { error })
      for (let n = 2; n <= 10; n++) await fail(await next(), { error })
      const { attempts, leftOut } = await of(id)
      expect(attempts.every((attempt) => attempt.error === error)).toBe(true)
      expect(attempts.length).toBeLessThanOrEqual(3)
      expect(attempts.at(-1)).toMatchObject({ number: 10 })
      expect(attempts.length + leftOut).toBe(10)
    })

    it('survives an explicit retry, and a cancel while the task waits adds none', async () => {
      const { id } = await submit({ maxRetry: 0 })
      await fail((await claim())[0]!.lease, { error: 'first run' })
      await fixture.queue.retry({ ids: [id] })
      expect((await of(id)).attempts).toMatchObject([{ number: 1, delivery: 1, outcome: 'failed', error: 'first run' }])
      await fixture.queue.cancel({ ids: [id] })
      expect(await outcomesOf(id)).toEqual(['failed'])
      await fixture.queue.retry({ ids: [id] })
      await succeed((await claim())[0]!.lease)
      expect((await of(id)).attempts).toMatchObject([
        { number: 1, delivery: 1, outcome: 'failed', error: 'first run' },
        { number: 1, delivery: 2, outcome: 'success', error: null },
      ])
      const waiting = await submit()
      await fail((await claim())[0]!.lease)
      await fixture.queue.cancel({ ids: [waiting.id] })
      expect(await outcomesOf(waiting.id)).toEqual(['failed'])
    })

    it('is there although the outbox has forgotten the task', async () => {
      await fixture.opened.cleanup()
      await fixture.start({ eventsMax: 5 })
      const { id } = await submit({ queueTimeoutMs: 0 })
      await fail((await claim())[0]!.lease)
      for (let n = 0; n < 20; n++) await submit()
      while ((await fixture.queue.sweep(1_000)).more);
      const { events } = await fixture.queue.events({ after: '', max: 100 })
      expect(events.filter(({ taskId }) => taskId === id)).toEqual([])
      expect((await of(id)).attempts).toMatchObject([{ outcome: 'failed', error: 'no' }])
    })

    it('goes with its task: by erasure and by retention', async () => {
      await fixture.opened.cleanup()
      await fixture.start({ retention: { ageMs: 60_000, countMax: 100 } })
      const tasks = [await submit({ queueTimeoutMs: 0 }), await submit({ queueTimeoutMs: 0 })]
      for (const { lease } of await claim(2)) await fail(lease)
      fixture.now += 1_000_000
      for (const { lease } of await claim(2)) await succeed(lease)
      expect(await outcomesOf(tasks[0]!.id)).toEqual(['failed', 'success'])
      await fixture.queue.erase([tasks[0]!.id])
      expect(await fixture.queue.attempts(tasks[0]!.id)).toBeNull()
      fixture.now += 60_001
      while ((await fixture.queue.sweep(100)).more);
      expect(await fixture.queue.attempts(tasks[1]!.id)).toBeNull()
    })
  })
}
