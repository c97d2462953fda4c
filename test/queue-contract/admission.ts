import { describe, expect, it } from 'vitest'
import type { Lease, Turn } from '../../src/queue/queue.ts'
import type { Outcome } from '../../src/task/outcome.ts'
import type { ScheduleSpec } from '../../src/task/schedule.ts'
import { completeSpec, TASK_LIMITS, type TaskSpec } from '../../src/task/task.ts'
import { type Fixture, WORKER } from './fixture.ts'

const HALF = 'cut \ud83d'
const NO_DELAYS = [Number.NaN, Number.POSITIVE_INFINITY, 1e17, 366 * 86_400_000 + 1, 'soon' as never]

/** One invalid item fails alone: values that a store cannot write are found before they share a call with others. */
export function admissionContract(fixture: Fixture): void {
  const { submit, claim, get } = fixture
  const spec = (more: Partial<TaskSpec>) => completeSpec({ type: 't', ...more })
  /** Settles all in one trip, each reported by a call of its own. */
  const settle = (outcomes: readonly [Lease, Outcome][]) =>
    Promise.all(
      outcomes.map(([{ lease }, outcome]) =>
        fixture.queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease, outcome }] }),
      ),
    )

  describe('admission', () => {
    it('refuses a call with too many dependencies, and accepts the largest number allowed', async () => {
      const { afterMax, edgesMax } = TASK_LIMITS
      const first = Array.from({ length: afterMax }, () => spec({ delayMs: 1e9 }))
      const after = (await fixture.queue.submit(first)).map(({ task }) => task.id)
      const most = Array.from({ length: edgesMax / afterMax }, () => spec({ after }))
      const tooMany = fixture.queue.submit([...most, spec({ after: after.slice(0, 1) })])
      await expect(tooMany).rejects.toMatchObject({
        code: 'too_large',
        message: expect.stringMatching(/has 20001 entries .* the maximum is 20000/),
      })
      expect(await fixture.queue.submit(most)).toHaveLength(most.length)
      expect((await fixture.queue.stats()).dependent).toBe(most.length)
    }, 60_000)

    it.each(NO_DELAYS)('retries by the back-off instead of a delay of %s, and says so', async (delayMs) => {
      const tasks = [await submit(), await submit(), await submit()]
      const [first, bad, last] = await claim(3)
      const fine: Outcome = { kind: 'success', result: 1 }
      await settle([
        [first!, fine],
        [bad!, { kind: 'failure', error: 'busy', retry: true, delayMs }],
        [last!, fine],
      ])
      const [one, two, three] = await fixture.queue.get(tasks.map(({ id }) => id))
      expect([one!.status, three!.status]).toEqual(['success', 'success'])
      expect(two).toMatchObject({ status: 'pending', attempts: 1, runAt: fixture.now + 1_000 })
      expect(two!.error).toMatch(/back-off.* busy$/)
      expect(await fixture.queue.list({ limit: 10 })).toMatchObject({ tasks: { length: 3 } })
    })

    it('rounds a fractional delay to milliseconds, and ignores one in the past', async () => {
      for (const [delayMs, runsIn] of [
        [1_234.5, 1_235],
        [-5_000, 0],
      ] as const) {
        const { id } = await submit()
        const [lease] = await claim()
        await settle([[lease!, { kind: 'failure', error: 'busy', retry: true, delayMs }]])
        expect((await get(id)).runAt).toBe(fixture.now + runsIn)
        await fixture.queue.cancel({ ids: [id] })
      }
    })

    it('fails only the task whose result cannot be serialized, with the reason', async () => {
      const tasks = [await submit(), await submit(), await submit()]
      const [first, bad, last] = await claim(3)
      const round: { self?: unknown } = {}
      round.self = round
      const outcomes: Turn['outcomes'] = [
        { lease: first!.lease, outcome: { kind: 'success', result: 1 } },
        { lease: bad!.lease, outcome: { kind: 'success', result: { n: 1n } as never } },
        { lease: last!.lease, outcome: { kind: 'success', result: round as never } },
      ]
      await fixture.queue.turn({ worker: WORKER, want: 0, outcomes })
      const ended = await fixture.queue.get(tasks.map(({ id }) => id))
      expect(ended.map((task) => task!.status)).toEqual(['success', 'failed', 'failed'])
      expect(ended[1]!.error).toMatch(/result\.n is a BigInt.*string/)
      expect(ended[2]!.error).toMatch(/cannot be written as JSON/)
    })

    it('repairs invalid Unicode in results, errors and progress', async () => {
      const [one, two] = [await submit({ maxRetry: 0 }), await submit({ maxRetry: 0 })]
      const [first, last] = await claim(2)
      const renewals = [{ lease: first!.lease, progress: { [HALF]: HALF } }]
      await fixture.queue.turn({ worker: WORKER, want: 0, renewals })
      await settle([
        [first!, { kind: 'success', result: { [HALF]: [HALF] } }],
        [last!, { kind: 'failure', error: HALF, retry: false, delayMs: null }],
      ])
      const repaired = 'cut \ufffd'
      expect(await get(one.id)).toMatchObject({
        result: { [repaired]: [repaired] },
        progress: { [repaired]: repaired },
      })
      expect((await get(two.id)).error).toBe(repaired)
    })

    it('clamps progress to 0 to 100, and ignores invalid progress', async () => {
      const { id } = await submit()
      const [{ lease }] = (await claim()) as [Lease]
      const report = async (progress: unknown) => {
        const { renewed } = await fixture.queue.turn({
          worker: WORKER,
          want: 0,
          renewals: [{ lease, progress: progress as number }],
        })
        expect(renewed[0]).not.toBeNull()
        return (await get(id)).progress
      }
      expect(await report(100.00000000000001)).toBe(100)
      expect(await report(-1e-9)).toBe(0)
      expect(await report(42)).toBe(42)
      for (const none of [Number.NaN, { n: 1n }, 'text', [1], { big: 'x'.repeat(20_000) }]) {
        expect(await report(none)).toBe(42)
      }
    })

    const bad: [string, Partial<TaskSpec>, RegExp][] = [
      ['a tag', { tags: { to: HALF } }, /tags\.to/],
      ['the name of a tag', { tags: { [HALF]: 'x' } }, /tags/],
      ['a group', { group: HALF }, /group/],
      ['a batch', { batch: HALF }, /batch/],
      ['a key', { idempotencyKey: HALF }, /idempotency_key/],
      ['a payload', { payload: { to: [HALF] } }, /payload\.to\[0\]/],
      ['a number that JSON cannot represent', { payload: { n: Number.NaN } }, /payload\.n is NaN/],
      ['a BigInt', { payload: { n: 1n as never } }, /payload\.n is a BigInt.*string/],
      ['a Map', { payload: { n: new Map() as never } }, /payload\.n is a Map/],
      ['an invalid delay', { delayMs: Number.NaN }, /delayMs/],
      ['a time-out with a fraction', { processTimeoutMs: 1.5 }, /processTimeoutMs/],
      ['an invalid time', { runAt: Number.POSITIVE_INFINITY }, /runAt/],
      ['an invalid priority', { priority: 1.5 }, /priority/],
    ]
    it.each(bad)('refuses only %s, with its path', async (_, more, path) => {
      const calls = Array.from({ length: 20 }, (_, index) => fixture.queue.submit([spec(index === 10 ? more : {})]))
      const answers = await Promise.allSettled(calls)
      const refused = answers.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[]
      expect(refused).toHaveLength(1)
      expect(refused[0]!.reason).toMatchObject({ code: expect.stringMatching(/^invalid_/), message: path })
      const { tasks } = await fixture.queue.list({ limit: 100 })
      expect(tasks).toHaveLength(19)
      expect(await claim(100)).toHaveLength(19)
    })

    it('refuses a schedule with invalid Unicode, and the others continue', async () => {
      const {
        delayMs: _,
        runAt: __,
        idempotencyKey: ___,
        after: ____,
        onFailure: _____,
        batch: ______,
        ...task
      } = spec({})
      const schedule = (id: string, more: Partial<TaskSpec> = {}): ScheduleSpec => ({
        ...{ id, task: { ...task, ...more }, timing: { everyMs: 60_000 } },
        ...{ catchUp: 'one', overlap: 'allow', paused: false },
      })
      const refused = fixture.queue.schedules({ add: schedule('bad', { tags: { to: HALF } }) })
      await expect(refused).rejects.toMatchObject({ code: 'invalid_request', message: /tags\.to/ })
      await expect(fixture.queue.schedules({ add: schedule(HALF) })).rejects.toMatchObject({ message: /id/ })
      await fixture.queue.schedules({ add: schedule('good') })
      const alter = { alter: 'good', to: { task: { type: 't', group: HALF } } }
      await expect(fixture.queue.schedules(alter)).rejects.toMatchObject({ message: /group/ })
      fixture.now += 60_000
      await fixture.queue.sweep(100)
      expect(await claim(10)).toHaveLength(1)
    })

    it('refuses a worker name with invalid Unicode', async () => {
      const turn = fixture.queue.turn({ worker: { ...WORKER, id: HALF }, want: 1 })
      await expect(turn).rejects.toMatchObject({ code: 'invalid_request', message: /worker_id/ })
    })
  })
}
