import { describe, expect, it } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { type Schedule, type ScheduleChanges, type ScheduleSpec, tickKey } from '../../src/task/schedule.ts'
import { completeSpec, DEFAULTED_FIELDS, type Task } from '../../src/task/task.ts'
import { type Fixture, WORKER } from './fixture.ts'

const MINUTE = 60_000

export function schedulesContract(fixture: Fixture): void {
  const { start, claim, succeed, submit } = fixture

  const spec = (id: string, more: Partial<ScheduleSpec> = {}): ScheduleSpec => {
    const { delayMs: _, runAt: __, idempotencyKey: ___, ...task } = completeSpec({ type: 't', payload: { of: id } })
    return {
      id,
      task,
      timing: { everyMs: MINUTE },
      catchUp: 'one',
      overlap: 'allow',
      paused: false,
      ...more,
    }
  }
  const add = async (id: string, more: Partial<ScheduleSpec> = {}): Promise<Schedule> =>
    (await fixture.queue.schedules({ add: spec(id, more) })).find((schedule) => schedule.id === id)!
  const see = async (id: string): Promise<Schedule | undefined> =>
    (await fixture.queue.schedules()).find((schedule) => schedule.id === id)
  /** All tasks that ticks have made, oldest first. */
  const made = async (): Promise<Task[]> => {
    const tasks: Task[] = []
    for (const status of ['pending', 'processing', 'success'] as const) {
      tasks.push(...(await fixture.queue.list({ status, limit: 1_000 })).tasks)
    }
    return tasks.filter(({ idempotencyKey }) => idempotencyKey?.startsWith('schedule:')).sort(byKey)
  }
  const ticks = async () => (await made()).map(({ idempotencyKey }) => idempotencyKey)
  const sweep = async (queue: Queue = fixture.queue) => {
    let swept = await queue.sweep(100)
    while (swept.more) swept = await queue.sweep(100)
    return swept
  }
  /** The next whole minute, and so many after it. */
  const minute = (n: number) => (Math.floor(fixture.now / MINUTE) + n) * MINUTE

  describe('schedules', () => {
    it('keeps an added schedule by its id for every process, and drops it', async () => {
      const b = await add('b', { paused: true, catchUp: 'all', overlap: 'skip' })
      const a = await add('a', { timing: { cron: '30 2 * * *', timezone: 'Europe/Berlin' } })
      const times = { lastAt: null, lastTaskId: null, createdAt: fixture.now, updatedAt: fixture.now }
      const paused = spec('b', { paused: true, catchUp: 'all', overlap: 'skip' })
      expect(b).toEqual({ ...paused, ...times, nextAt: null })
      expect(a).toEqual({ ...spec('a', { timing: a.timing }), ...times, nextAt: Date.parse('2023-11-15T01:30:00Z') })
      const second = await fixture.opened.second()
      expect(await second.schedules()).toEqual([a, b])
      expect(await second.schedules({ drop: 'a' })).toEqual([b])
      expect(await fixture.queue.schedules()).toEqual([b])
    })

    it('accepts the same schedule again after the defaults of its type have changed, as stored by any version', async () => {
      const { task } = spec('a')
      const defaulted = { ...task, byDefault: DEFAULTED_FIELDS }
      const first = await add('a', { task: defaulted })
      expect(await add('a', { task: { ...defaulted, maxRetry: 9 } })).toEqual(first)
      const { byDefault: _, ...asked } = defaulted
      await expect(add('a', { task: { ...asked, maxRetry: 9 } })).rejects.toMatchObject({ code: 'schedule_exists' })
      const before = await add('b')
      expect(await add('b', { task: { ...spec('b').task, maxRetry: 9, byDefault: DEFAULTED_FIELDS } })).toEqual(before)
      await fixture.queue.schedules({ alter: 'a', to: { task: { type: 't', maxRetry: 5 } } })
      await expect(add('a', { task: defaulted })).rejects.toMatchObject({ code: 'schedule_exists' })
    })

    it('accepts the same schedule again, and refuses a different one, an unknown type, and changes to an unknown id', async () => {
      const first = await add('a')
      fixture.now += 5
      expect(await add('a')).toEqual(first)
      await expect(add('a', { timing: { everyMs: 5_000 } })).rejects.toMatchObject({ code: 'schedule_exists' })
      await expect(add('a', { task: { ...first.task, type: 'u' } })).rejects.toMatchObject({ code: 'schedule_exists' })
      const unknown = { ...first.task, type: 'unknown' }
      await expect(add('b', { task: unknown })).rejects.toMatchObject({ code: 'unknown_type' })
      for (const change of [{ alter: 'x', to: {} }, { drop: 'x' }, { run: 'x' }]) {
        await expect(fixture.queue.schedules(change)).rejects.toMatchObject({ code: 'not_found' })
      }
      expect(await fixture.queue.schedules()).toEqual([first])
    })

    it('changes the requested fields and keeps the others', async () => {
      const first = await add('a')
      fixture.now += 1
      const [altered] = await fixture.queue.schedules({
        alter: 'a',
        to: { task: { type: 't', priority: 7 }, catchUp: 'none' },
      })
      expect(altered).toEqual({
        ...first,
        task: { ...first.task, priority: 7 },
        catchUp: 'none',
        updatedAt: fixture.now,
      })
      const [paused] = await fixture.queue.schedules({ alter: 'a', to: { paused: true } })
      expect(paused).toMatchObject({ paused: true, nextAt: null })
      fixture.now += 10 * MINUTE
      await sweep()
      expect(await made()).toEqual([])
      const [resumed] = await fixture.queue.schedules({ alter: 'a', to: { paused: false } })
      expect(resumed).toMatchObject({ paused: false, nextAt: minute(1) })
    })

    it('changes only a cron or its zone, and no schedule of another type that now has the id', async () => {
      await add('a')
      const alter = async (to: ScheduleChanges) => (await fixture.queue.schedules({ alter: 'a', to }))[0]!
      const zone = alter({ timing: { timezone: 'Asia/Tokyo' } })
      await expect(zone).rejects.toMatchObject({ code: 'invalid_request', details: { errors: [{ path: 'timezone' }] } })
      expect(await alter({ timing: { cron: '0 8 * * *' } })).toMatchObject({
        timing: { cron: '0 8 * * *', timezone: 'UTC' },
        nextAt: Date.parse('2023-11-15T08:00:00Z'),
      })
      expect(await alter({ timing: { timezone: 'Asia/Tokyo' } })).toMatchObject({
        timing: { cron: '0 8 * * *', timezone: 'Asia/Tokyo' },
        nextAt: Date.parse('2023-11-14T23:00:00Z'),
      })
      const second = await fixture.opened.second()
      await Promise.all([
        alter({ timing: { cron: '0 9 * * *' } }),
        second.schedules({ alter: 'a', to: { timing: { timezone: 'Europe/Berlin' } } }),
        alter({ task: { type: 't', payload: 1 } }),
        second.schedules({ alter: 'a', to: { task: { type: 't', priority: 2 } } }),
      ])
      const both = { timing: { cron: '0 9 * * *', timezone: 'Europe/Berlin' }, task: { payload: 1, priority: 2 } }
      expect(await see('a')).toMatchObject(both)
      await expect(alter({ task: { type: 'u', payload: 2 } })).rejects.toMatchObject({ code: 'not_found' })
      expect(await see('a')).toMatchObject(both)
    })

    it('creates the task of a tick when it is due, reports the next time, and stores the last task', async () => {
      const { task } = await add('a')
      expect((await sweep()).nextAt).toBe(minute(1))
      fixture.now = minute(1) - 1
      await sweep()
      expect(await made()).toEqual([])
      fixture.now += 1
      const tick = fixture.now
      expect((await sweep()).nextAt).toBe(tick + MINUTE)
      const [only, ...others] = await made()
      expect(others).toEqual([])
      expect(only).toMatchObject({ ...task, status: 'pending', createdAt: tick, idempotencyKey: tickKey('a', tick) })
      expect(await see('a')).toMatchObject({ lastAt: tick, lastTaskId: only!.id, nextAt: tick + MINUTE })
      await sweep()
      const [lease] = await claim(5)
      expect(lease!.task.id).toBe(only!.id)
      expect(await succeed(lease!.lease)).toMatchObject({ accepted: true })
      expect(await ticks()).toEqual([tickKey('a', tick)])
    })

    it('creates one task per tick however many processes sweep at once', async () => {
      for (const id of ['a', 'b', 'c']) await add(id, { timing: { everyMs: 1_000 }, catchUp: 'all' })
      const engines = [fixture.queue, await fixture.opened.second(), await fixture.opened.second()]
      const first = Math.floor(fixture.now / 1_000) * 1_000 + 1_000
      for (let round = 0; round < 20; round++) {
        fixture.now += 1_000
        await Promise.all(engines.flatMap((queue) => [sweep(queue), sweep(queue)]))
      }
      // One of them is the one that sweeps, if not all are.
      await Promise.all(engines.map(sweep))
      const all = Array.from({ length: 20 }, (_, index) => first + index * 1_000)
      const wanted = ['a', 'b', 'c'].flatMap((id) => all.map((at) => tickKey(id, at)))
      expect(await ticks()).toEqual(wanted)
    })

    it('catches up after a time without a process', async () => {
      const catchUps = ['all', 'none', 'one'] as const
      for (const catchUp of catchUps) await add(catchUp, { catchUp, timing: { everyMs: 10 * MINUTE } })
      const first = Math.floor(fixture.now / (10 * MINUTE) + 1) * 10 * MINUTE
      fixture.now = first + 35 * MINUTE
      await sweep()
      const missed = [0, 10, 20, 30].map((minutes) => first + minutes * MINUTE)
      expect(await ticks()).toEqual([...missed.map((at) => tickKey('all', at)), tickKey('one', missed[3]!)])
      const schedules = await fixture.queue.schedules()
      expect(schedules.map(({ nextAt }) => nextAt)).toEqual(catchUps.map(() => first + 40 * MINUTE))
      expect(schedules.map(({ lastAt }) => lastAt)).toEqual([missed[3], null, missed[3]])
    })

    it('catches up on at most the latest hundred ticks, in bounded steps', async () => {
      await add('a', { catchUp: 'all' })
      fixture.now += 1_000 * MINUTE
      // An engine also sweeps by itself when something is due, so only what each of these steps did is known.
      const changes: number[] = []
      while ((await see('a'))!.nextAt! <= fixture.now) changes.push((await fixture.queue.sweep(10)).changed)
      expect(Math.max(...changes)).toBeLessThanOrEqual(10)
      const made = await ticks()
      expect([made.length, made.at(-1)]).toEqual([100, tickKey('a', minute(0))])
      expect((await see('a'))!.nextAt).toBe(minute(1))
    })

    it('skips ticks while the last task has not ended, if configured', async () => {
      await add('a', { overlap: 'skip' })
      const times: number[] = []
      const pass = async () => {
        fixture.now = minute(1)
        times.push(fixture.now)
        await sweep()
      }
      await pass()
      await pass()
      expect(await ticks()).toEqual([tickKey('a', times[0]!)])
      // It is running, by a lease that is long enough.
      const { leases } = await fixture.queue.turn({ worker: WORKER, want: 1, leaseMs: 100 * MINUTE })
      await pass()
      expect(await ticks()).toHaveLength(1)
      expect(await see('a')).toMatchObject({ lastAt: times[0], nextAt: fixture.now + MINUTE })
      await fixture.queue.turn({
        worker: WORKER,
        want: 0,
        outcomes: [{ lease: leases[0]!.lease, outcome: { kind: 'success', result: null } }],
      })
      await pass()
      expect(await ticks()).toEqual([times[0]!, times[3]!].map((at) => tickKey('a', at)))
    })

    it('runs a schedule on request, also while it is paused or its last task runs, and loses no tick', async () => {
      await add('a', { overlap: 'skip', paused: true })
      const [first] = await fixture.queue.schedules({ run: 'a' })
      const [second] = await fixture.queue.schedules({ run: 'a' })
      expect(first!.lastTaskId).not.toBe(second!.lastTaskId)
      expect(second).toMatchObject({ lastAt: fixture.now, nextAt: null })
      const tasks = await fixture.queue.get([first!.lastTaskId!, second!.lastTaskId!])
      expect(tasks.map((task) => [task?.payload, task?.idempotencyKey])).toEqual([
        [{ of: 'a' }, null],
        [{ of: 'a' }, null],
      ])
      await fixture.queue.schedules({ add: spec('b') })
      await fixture.queue.schedules({ run: 'b' })
      expect((await see('b'))!.nextAt).toBe(minute(1))
    })

    it('creates its task although no worker of its type is known any more', async () => {
      await fixture.opened.cleanup()
      await start({ typeTtlMs: MINUTE })
      await add('a', { timing: { everyMs: 10 * MINUTE } })
      fixture.now += 10 * MINUTE
      await expect(submit()).rejects.toMatchObject({ code: 'unknown_type' })
      await sweep()
      expect(await made()).toHaveLength(1)
    })

    it('keeps a tick due while the queue is full', async () => {
      await fixture.opened.cleanup()
      await start({ pendingMax: 1 })
      await add('a')
      const { id } = await submit()
      fixture.now = minute(1)
      const tick = fixture.now
      expect((await sweep()).nextAt).toBeGreaterThan(fixture.now)
      expect(await see('a')).toMatchObject({ nextAt: tick, lastAt: null })
      await expect(fixture.queue.schedules({ run: 'a' })).rejects.toMatchObject({ code: 'queue_full' })
      await fixture.queue.cancel({ ids: [id] })
      fixture.now += 1_000
      await sweep()
      expect(await ticks()).toEqual([tickKey('a', tick)])
    })

    it('counts tasks that wait for others against the cap', async () => {
      await fixture.opened.cleanup()
      await start({ pendingMax: 3 })
      await add('a')
      const { id } = await submit({ delayMs: 60 * MINUTE })
      await submit({ after: [id] })
      const runs = await Promise.allSettled(['a', 'a', 'a'].map((run) => fixture.queue.schedules({ run })))
      expect(runs.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected', 'rejected'])
      expect((await fixture.queue.stats()).counts.pending).toBe(3)
    })

    it('creates no task for a tick whose key was used before', async () => {
      await add('a')
      const task = await submit({ payload: 'mine', idempotencyKey: tickKey('a', minute(1)) })
      fixture.now = minute(1)
      await sweep()
      expect(await made()).toHaveLength(1)
      expect(await see('a')).toMatchObject({ lastAt: fixture.now, lastTaskId: task.id, nextAt: minute(1) })
    })

    it('stores a schedule with its given times, and keeps an existing one', async () => {
      const kept: Schedule = {
        ...spec('a'),
        nextAt: minute(5),
        lastAt: minute(-6),
        lastTaskId: null,
        createdAt: 1,
        updatedAt: 2,
      }
      expect(await fixture.queue.schedules({ keep: kept })).toEqual([kept])
      await fixture.queue.schedules({ keep: { ...kept, paused: true, nextAt: null } })
      expect(await fixture.queue.schedules()).toEqual([kept])
      fixture.now = minute(5)
      await sweep()
      expect(await ticks()).toEqual([tickKey('a', fixture.now)])
    })

    it('survives a restart of the process', async () => {
      const schedule = await add('a')
      const second = await fixture.opened.second()
      await fixture.queue.close()
      expect(await second.schedules()).toEqual([schedule])
    })
  })
}

function byKey(a: Task, b: Task): number {
  return a.idempotencyKey! < b.idempotencyKey! ? -1 : 1
}
