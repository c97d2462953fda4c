import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Engine, EngineOptions, WorkerIdentity } from '../../src/engine/engine.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { isFinal } from '../../src/task/status.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { randomRun } from './random.ts'

/** Opens a fresh store; `second` opens the same store once more, as another process would. */
export interface Opened {
  engine: Engine
  second: () => Promise<Engine>
  cleanup: () => Promise<void>
}

export const WORKER: WorkerIdentity = {
  id: 'w1',
  host: 'h',
  pid: 1,
  types: ['t', 'u'],
  concurrency: 100,
  startedAt: 0,
}

/** What every engine must do. Time stands still unless a test moves it. */
export function engineContract(name: string, open: (options: Partial<EngineOptions>) => Promise<Opened>): void {
  describe(name, () => {
    let now: number
    let opened: Opened
    let engine: Engine
    const options: Partial<EngineOptions> = { clock: () => now, random: () => 0, leaseMs: 1_000, workerTtlMs: 1e9 }

    const start = async (more: Partial<EngineOptions> = {}) => {
      opened = await open({ ...options, ...more })
      engine = opened.engine
      for (const type of WORKER.types) await limit(type, null)
    }
    const limit = (type: string, maxConcurrency: number | null) =>
      engine.configureType(type, { handler: { maxConcurrency, retry: RETRY_DEFAULTS, payloadSchema: null } })
    const submit = async (spec: Partial<TaskSpec> = {}) =>
      (await engine.submit([completeSpec({ type: 't', ...spec })]))[0]!.task
    const claim = async (want = 1, worker = WORKER) => (await engine.turn({ worker, want })).leases
    const succeed = async (lease: string, result: number | null = null) =>
      (await engine.turn({ worker: WORKER, want: 0, outcomes: [{ lease, outcome: { kind: 'success', result } }] }))
        .settled[0]!
    const fail = async (lease: string, more: object = {}) => {
      const outcome = { kind: 'failure', error: 'no', retry: true, delayMs: null, ...more } as const
      return (await engine.turn({ worker: WORKER, want: 0, outcomes: [{ lease, outcome }] })).settled[0]!
    }
    const get = async (id: string) => (await engine.get([id]))[0]!

    beforeEach(async () => {
      now = 1_700_000_000_000
      await start()
    })
    afterEach(() => opened.cleanup())

    describe('submit', () => {
      it('accepts a task that anyone then sees', async () => {
        const task = await submit({ payload: { a: [1, 'é', null] }, tags: { k: 'v' }, priority: 3 })
        expect(await get(task.id)).toEqual(task)
        expect(task).toMatchObject({ status: 'pending', attempts: 0, deliveries: 0, runAt: now, createdAt: now })
      })

      it('refuses unknown types with the index of each, and accepts none of the batch', async () => {
        const specs = ['t', 'nope', 't', 'nah'].map((type) => completeSpec({ type }))
        await expect(engine.submit(specs)).rejects.toMatchObject({
          code: 'unknown_type',
          details: {
            registered_types: ['t', 'u'],
            errors: [{ path: 'tasks[1].type' }, { path: 'tasks[3].type' }],
          },
        })
        expect((await engine.stats()).counts.pending).toBe(0)
      })

      it('answers the earlier task for a known key, also within one batch, and refuses another body', async () => {
        const spec = completeSpec({ type: 't', payload: 1, idempotencyKey: 'k' })
        const [one, two] = await engine.submit([spec, spec])
        const [three] = await engine.submit([spec])
        expect([one!.existing, two!.existing, three!.existing]).toEqual([false, true, true])
        expect(new Set([one!.task.id, two!.task.id, three!.task.id]).size).toBe(1)
        await expect(engine.submit([completeSpec({ type: 't' }), { ...spec, payload: 2 }])).rejects.toMatchObject({
          code: 'idempotency_conflict',
        })
        expect((await engine.stats()).counts.pending).toBe(1)
      })

      it('refuses what a full queue cannot take, whole', async () => {
        await opened.cleanup()
        await start({ pendingMax: 2 })
        await submit()
        const two = [completeSpec({ type: 't' }), completeSpec({ type: 't' })]
        await expect(engine.submit(two)).rejects.toMatchObject({ code: 'queue_full' })
        await submit()
        expect((await engine.stats()).counts.pending).toBe(2)
      })
    })

    describe('turn', () => {
      it('claims by priority, then by age', async () => {
        const ids: string[] = []
        for (const priority of [0, 5, 0, 9, 5]) ids.push((await submit({ priority })).id)
        const leases = await claim(10)
        expect(leases.map(({ task }) => task.id)).toEqual([3, 1, 4, 0, 2].map((index) => ids[index]))
      })

      it('does not claim a delayed task before its time, and does at its time with no sweep', async () => {
        const { id } = await submit({ delayMs: 5_000 })
        expect((await get(id)).status).toBe('pending')
        now += 4_999
        expect(await claim()).toEqual([])
        now += 1
        expect((await claim())[0]!.task.id).toBe(id)
      })

      it('never claims beyond the limit, and again as permits come free', async () => {
        await limit('t', 2)
        for (let index = 0; index < 5; index++) await submit()
        const leases = await claim(10)
        expect(leases).toHaveLength(2)
        expect(await claim(10)).toHaveLength(0)
        await succeed(leases[0]!.lease)
        expect(await claim(10)).toHaveLength(1)
        const [info] = await engine.types({ names: ['t'], holders: true })
        expect(info!.holders).toHaveLength(2)
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
        expect(await get(id)).toMatchObject({ status: 'pending', attempts: 1, runAt: now + 1_000, error: 'no' })
        expect(await claim()).toEqual([])
        now += 1_000
        await fail((await claim())[0]!.lease)
        expect(await get(id)).toMatchObject({ status: 'failed', attempts: 2, completedAt: now })
      })

      it('honours "do not retry" and "retry after"', async () => {
        const one = await submit()
        await fail((await claim())[0]!.lease, { retry: false })
        expect((await get(one.id)).status).toBe('failed')
        const two = await submit()
        await fail((await claim())[0]!.lease, { delayMs: 60_000 })
        expect((await get(two.id)).runAt).toBe(now + 60_000)
      })

      it('takes back a released task at no cost', async () => {
        const { id } = await submit()
        const [lease] = await claim()
        const outcomes = [{ lease: lease!.lease, outcome: { kind: 'released' } as const }]
        await engine.turn({ worker: WORKER, want: 0, outcomes })
        expect(await get(id)).toMatchObject({ status: 'pending', attempts: 0, deliveries: 1, runAt: now })
      })

      it('ends a task that waited too long instead of claiming it, but never after its first start', async () => {
        const { id } = await submit({ queueTimeoutMs: 1_000, maxRetry: 5 })
        const started = await submit({ queueTimeoutMs: 1_000, priority: 9 })
        await fail((await claim())[0]!.lease, { delayMs: 10_000 })
        now += 1_000
        expect(await claim()).toEqual([])
        expect(await get(id)).toMatchObject({ status: 'timeout', timeoutReason: 'queue_wait', attempts: 0 })
        now += 10_000
        expect((await claim())[0]!.task.id).toBe(started.id)
      })

      it('wakes a waiting turn by a submission, a free permit, a resume and a raised limit', async () => {
        const wait = () => engine.turn({ worker: WORKER, want: 1, waitMs: 20_000 })
        await limit('t', 1)
        const [bySubmit] = await Promise.all([wait(), submit()])
        expect(bySubmit.leases).toHaveLength(1)
        await submit()
        const [byPermit] = await Promise.all([wait(), succeed(bySubmit.leases[0]!.lease)])
        expect(byPermit.leases).toHaveLength(1)
        await submit()
        const [byLimit] = await Promise.all([wait(), engine.configureType('t', { maxConcurrency: 2 })])
        expect(byLimit.leases).toHaveLength(1)
        await engine.configureType('t', { maxConcurrency: null, paused: true })
        await submit()
        const [byResume] = await Promise.all([wait(), engine.configureType('t', { paused: false })])
        expect(byResume.leases).toHaveLength(1)
      })

      it('ends a wait by its signal, with nothing lost', async () => {
        const stop = new AbortController()
        const waiting = engine.turn({ worker: WORKER, want: 1, waitMs: 20_000, signal: stop.signal })
        setImmediate(() => stop.abort())
        expect((await waiting).leases).toEqual([])
        await submit()
        expect(await claim()).toHaveLength(1)
      })

      it('keeps the last progress that came with the outcome', async () => {
        const { id } = await submit()
        const { lease } = (await claim())[0]!
        const outcomes = [{ lease, outcome: { kind: 'success', result: null } as const }]
        await engine.turn({ worker: WORKER, want: 0, outcomes, renewals: [{ lease, progress: 100 }] })
        expect(await get(id)).toMatchObject({ status: 'success', progress: 100 })
      })
    })

    describe('sweep', () => {
      it('gives a lost lease back: a delivery more, no attempt, and the old lease is fenced off', async () => {
        const { id } = await submit()
        const [old] = await claim()
        now += 999
        await engine.sweep(100)
        expect((await get(id)).status).toBe('processing')
        now += 1
        await engine.sweep(100)
        expect(await get(id)).toMatchObject({ status: 'pending', attempts: 0, deliveries: 1 })
        const [again] = await claim()
        expect(again!.task).toMatchObject({ id, deliveries: 2, attempts: 0 })
        expect(await succeed(old!.lease, 1)).toEqual({ accepted: false, status: null })
        expect((await get(id)).status).toBe('processing')
        expect((await succeed(again!.lease, 2)).accepted).toBe(true)
        expect((await get(id)).result).toBe(2)
      })

      it('keeps a lease that is renewed', async () => {
        const { id } = await submit()
        const [lease] = await claim()
        for (let step = 0; step < 5; step++) {
          now += 900
          const { renewed } = await engine.turn({ worker: WORKER, want: 0, renewals: [{ lease: lease!.lease }] })
          expect(renewed[0]).toEqual({ expiresAt: now + 1_000, cancelRequested: false })
          await engine.sweep(100)
        }
        expect(await get(id)).toMatchObject({ status: 'processing', deliveries: 1 })
      })

      it('fails a task as poison after its fifth lost lease', async () => {
        const { id } = await submit()
        for (let lost = 0; lost < 5; lost++) {
          expect(await claim()).toHaveLength(1)
          now += 1_000
          await engine.sweep(100)
        }
        const task = await get(id)
        expect(task).toMatchObject({ status: 'failed', attempts: 0, deliveries: 5 })
        expect(task.error).toContain('poison')
      })

      it('times an attempt out, retries it, and ends in timeout; a late result is refused', async () => {
        const { id } = await submit({ processTimeoutMs: 500, maxRetry: 1 })
        await claim()
        now += 500
        await engine.sweep(100)
        expect(await get(id)).toMatchObject({ status: 'pending', attempts: 1 })
        now += 1_000
        const [lease] = await claim()
        now += 500
        expect(await succeed(lease!.lease, 1)).toMatchObject({ accepted: false, status: 'timeout' })
        expect(await get(id)).toMatchObject({
          status: 'timeout',
          timeoutReason: 'processing',
          attempts: 2,
          result: null,
        })
      })

      it('ends waits with no worker alive, and says when to come next', async () => {
        const { id } = await submit({ queueTimeoutMs: 700 })
        expect((await engine.sweep(100)).nextAt).toBe(now + 700)
        now += 700
        await engine.sweep(100)
        expect(await get(id)).toMatchObject({ status: 'timeout', timeoutReason: 'queue_wait' })
      })

      it('forgets finished tasks by count and by age, in bounded steps, and the statistics stay true', async () => {
        await opened.cleanup()
        await start({ retention: { ageMs: 10_000, countMax: 3 } })
        const unfinished = await submit({ delayMs: 1e8, queueTimeoutMs: 0 })
        for (let index = 0; index < 8; index++) await submit()
        for (const { lease } of await claim(8)) await succeed(lease)
        expect((await engine.sweep(2)).more).toBe(true)
        while ((await engine.sweep(2)).more);
        expect((await engine.stats()).counts.success).toBe(3)
        expect((await engine.list({ limit: 100, status: 'success' })).tasks).toHaveLength(3)
        now += 10_001
        while ((await engine.sweep(2)).more);
        expect((await engine.stats()).counts).toMatchObject({ success: 0, pending: 1 })
        expect((await get(unfinished.id)).status).toBe('pending')
      })
    })

    describe('cancel and retry', () => {
      it('cancels a waiting task at once, and not a finished one', async () => {
        const { id } = await submit()
        expect((await engine.cancel({ ids: [id] })).results[0]).toMatchObject({ outcome: 'changed' })
        expect((await engine.cancel({ ids: [id, 'none'] })).results.map(({ outcome }) => outcome)).toEqual([
          'refused',
          'unknown',
        ])
        expect(await claim()).toEqual([])
      })

      it('tells a running task to stop; whatever it answers, it ends as canceled', async () => {
        const { id } = await submit()
        const [lease] = await claim()
        const waiting = engine.turn({ worker: WORKER, want: 0, waitMs: 20_000 })
        expect((await engine.cancel({ ids: [id] })).results[0]!.outcome).toBe('stopping')
        expect((await waiting).cancelRequested).toEqual([lease!.lease])
        expect(await succeed(lease!.lease, 1)).toEqual({ accepted: false, status: 'canceled' })
        expect(await get(id)).toMatchObject({ status: 'canceled', result: null })
      })

      it('ends a canceled task whose handler does not stop when its grace is over', async () => {
        const { id } = await submit()
        const { lease } = (await claim())[0]!
        await engine.cancel({ ids: [id] })
        for (let step = 0; step < 6; step++) {
          now += 900
          await engine.turn({ worker: WORKER, want: 0, renewals: [{ lease }] })
          await engine.sweep(100)
        }
        expect((await get(id)).status).toBe('canceled')
        expect((await succeed(lease)).status).toBeNull()
      })

      it('changes all that fit a filter, and only those', async () => {
        for (const tags of [{ a: '1' }, { a: '2' }, {}]) await submit({ tags })
        await engine.submit([completeSpec({ type: 'u', tags: { a: '1' } })])
        const filter = { type: 't', tag: { key: 'a', value: '1' } }
        expect((await engine.cancel({ filter })).results).toHaveLength(1)
        expect((await engine.cancel({ filter: {} })).results).toHaveLength(3)
        expect((await engine.retry({ filter: { status: 'canceled', type: 't' } })).results).toHaveLength(3)
        expect((await engine.stats()).counts).toMatchObject({ pending: 3, canceled: 1 })
      })

      it('retries with attempts from 0 and a fence that was never used before', async () => {
        const { id } = await submit({ maxRetry: 0 })
        const [first] = await claim()
        await fail(first!.lease)
        expect((await engine.retry({ ids: [id] })).results[0]!.task).toMatchObject({
          status: 'pending',
          attempts: 0,
          error: null,
          completedAt: null,
        })
        const [second] = await claim()
        expect(second!.lease).not.toBe(first!.lease)
        expect((await fail(first!.lease)).status).toBeNull()
        await succeed(second!.lease)
        expect((await engine.retry({ ids: [id] })).results[0]!.outcome).toBe('refused')
      })
    })

    describe('configureType', () => {
      it('lets the operator win over the handler, also after the worker starts again', async () => {
        await limit('t', 5)
        await engine.configureType('t', { maxConcurrency: 2 })
        expect((await limit('t', 5)).maxConcurrency).toBe(2)
        await engine.configureType('t', { maxConcurrency: null })
        expect((await limit('t', 5)).maxConcurrency).toBeNull()
      })

      it('starts nothing new until what runs fits a lowered limit', async () => {
        for (let index = 0; index < 4; index++) await submit()
        const leases = await claim(3)
        await engine.configureType('t', { maxConcurrency: 2 })
        await succeed(leases[0]!.lease)
        expect(await claim()).toEqual([])
        await succeed(leases[1]!.lease)
        expect(await claim()).toHaveLength(1)
      })

      it('refuses a type that nobody made known', async () => {
        await expect(engine.configureType('nope', { maxConcurrency: 1 })).rejects.toMatchObject({
          code: 'unknown_type',
        })
      })
    })

    describe('looks', () => {
      it('lists newest first, and pending ones in the order they will run, page by page', async () => {
        const ids: string[] = []
        for (const spec of [{}, { priority: 5 }, { delayMs: 50 }, { type: 'u' }]) ids.push((await submit(spec)).id)
        const all = async (query: object) => {
          const found: string[] = []
          let cursor: string | undefined
          do {
            const page = await engine.list({ ...query, limit: 1, ...(cursor ? { cursor } : {}) })
            found.push(...page.tasks.map(({ id }) => id))
            cursor = page.nextCursor ?? undefined
          } while (cursor)
          return found
        }
        expect(await all({})).toEqual([...ids].reverse())
        expect(await all({ status: 'pending' })).toEqual([1, 0, 3, 2].map((index) => ids[index]))
        expect(await all({ type: 'u' })).toEqual([ids[3]])
        await expect(engine.list({ limit: 1, cursor: 'rubbish' })).rejects.toMatchObject({ code: 'invalid_cursor' })
      })

      it('explains why a task is not running', async () => {
        const reason = async (id: string) => (await engine.explain(id))!.reason
        const one = await submit()
        expect(await reason(one.id)).toBe('no_worker')
        await claim(0)
        expect(await reason(one.id)).toBe('ready')
        const two = await submit()
        expect(await engine.explain(two.id)).toMatchObject({ reason: 'behind', ahead: 1 })
        await engine.configureType('t', { maxConcurrency: 1 })
        const [lease] = await claim()
        expect(await reason(one.id)).toBe('running')
        expect(await engine.explain(two.id)).toMatchObject({ reason: 'limit_reached', holders: [{ taskId: one.id }] })
        await engine.configureType('t', { paused: true })
        expect(await reason(two.id)).toBe('paused')
        expect(await reason((await submit({ delayMs: 9 })).id)).toBe('delayed')
        await succeed(lease!.lease)
        expect(await reason(one.id)).toBe('finished')
        expect(await engine.explain('none')).toBeNull()
      })

      it('tells each change once, in order, to a reader that waits or resumes', async () => {
        const { last } = await engine.events({ after: null, max: 10 })
        const waiting = engine.events({ after: last, max: 10, waitMs: 20_000 })
        const { id } = await submit()
        expect((await waiting).events.map(({ status }) => status)).toEqual(['pending'])
        await succeed((await claim())[0]!.lease, 5)
        const page = await engine.events({ after: last, max: 10 })
        expect(page.events.map(({ taskId, status, result }) => [taskId, status, result])).toEqual([
          [id, 'pending', null],
          [id, 'processing', null],
          [id, 'success', 5],
        ])
        expect((await engine.events({ after: page.events[1]!.id, max: 10 })).events).toHaveLength(1)
      })

      it('tells a reader that fell behind that events are gone', async () => {
        await opened.cleanup()
        await start({ eventsMax: 5 })
        for (let index = 0; index < 20; index++) await submit()
        await engine.sweep(1_000)
        expect((await engine.events({ after: 0, max: 100 })).gap).toBe(true)
        const { last } = await engine.events({ after: null, max: 1 })
        expect((await engine.events({ after: last, max: 1 })).gap).toBe(false)
      })

      it('lists workers and their leave', async () => {
        await submit()
        await claim()
        expect(await engine.workers()).toMatchObject([{ id: 'w1', running: 1, types: ['t', 'u'] }])
        await engine.turn({ worker: WORKER, want: 0, leaving: true })
        expect(await engine.workers()).toEqual([])
      })

      it('is healthy and says what an accepted task survives', async () => {
        const { checks, durability } = await engine.health()
        expect(checks.every(({ ok }) => ok)).toBe(true)
        expect(durability).not.toBe('')
      })
    })

    describe('many workers on two connections', () => {
      it('run each task once and never exceed the limit', async () => {
        const other = await opened.second()
        await limit('t', 7)
        await engine.submit(Array.from({ length: 300 }, () => completeSpec({ type: 't' })))
        const done: string[] = []
        const work = async (on: Engine, index: number) => {
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
        await Promise.all(Array.from({ length: 8 }, (_, index) => work(index % 2 ? other : engine, index)))
        expect(new Set(done).size).toBe(300)
        expect((await engine.stats()).counts).toMatchObject({ success: 300, processing: 0, pending: 0 })
        await other.close()
      })
    })

    it('keeps every promise in random sequences of operations', async () => {
      const seed = Number(process.env.XQUEUE_SEED ?? Math.floor(Math.random() * 2 ** 31))
      const path = process.env.XQUEUE_PATH
      const run = fc.asyncProperty(
        fc.commands(randomRun.commands, { size: '+1', ...(path ? { replayPath: path } : {}) }),
        async (commands) => {
          const fresh = await open({ ...options, clock: () => model.now })
          const model = randomRun.model()
          for (const type of WORKER.types) await fresh.engine.configureType(type, { declared: true, maxConcurrency: 2 })
          try {
            await fc.asyncModelRun(() => ({ model, real: fresh.engine }), commands)
            await randomRun.checkHistory(model, fresh.engine, isFinal)
          } finally {
            await fresh.cleanup()
          }
        },
      )
      // A failure prints the seed; XQUEUE_SEED (and XQUEUE_PATH for the commands) replays it.
      await fc.assert(run, { seed, numRuns: 60, endOnFailure: path !== undefined })
    })
  })
}
