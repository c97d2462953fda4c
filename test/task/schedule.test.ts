import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  changedSchedule,
  dueTick,
  isSameSchedule,
  newSchedule,
  type Schedule,
  type ScheduleSpec,
  specAt,
  tickOfKey,
} from '../../src/task/schedule.ts'
import { completeSpec } from '../../src/task/task.ts'
import {
  CRON_CHARS_MAX,
  changedTiming,
  checkCron,
  checkEvery,
  nextTick,
  ticksBetween,
  upcoming,
} from '../../src/task/timing.ts'

const { delayMs: _, runAt: __, idempotencyKey: ___, ...task } = completeSpec({ type: 't' })
const spec = (more: Partial<ScheduleSpec> = {}): ScheduleSpec => ({
  id: 's',
  task,
  timing: { everyMs: 60_000 },
  catchUp: 'one',
  overlap: 'allow',
  paused: false,
  ...more,
})
const at = (iso: string) => Date.parse(iso)
/** The ticks of a UTC day or two, without their date where it is the same. */
const ticks = (cron: string, timezone: string, from: string, to: string) =>
  ticksBetween({ cron, timezone }, at(from), at(to), 1_000).map((time) => new Date(time).toISOString().slice(5, 16))

describe('a cron over changes of the clock', () => {
  it('ticks once for a time that does not exist, at the time to which the clocks are set', () => {
    const berlin = ['Europe/Berlin', '2024-03-30T12:00Z', '2024-04-01T12:00Z'] as const
    expect(ticks('30 2 * * *', ...berlin)).toEqual(['03-31T01:00', '04-01T00:30'])
    expect(ticks('30 2 * * *', 'America/New_York', '2024-03-09T12:00Z', '2024-03-11T12:00Z')).toEqual([
      '03-10T07:00',
      '03-11T06:30',
    ])
    // Clocks are set ahead by half an hour, from 2:00 to 2:30.
    expect(ticks('15 2 * * *', 'Australia/Lord_Howe', '2024-10-05T12:00Z', '2024-10-06T18:00Z')).toEqual([
      '10-05T15:30',
      '10-06T15:15',
    ])
    // Several that do not exist are at the same moment, and so one.
    expect(ticks('*/20 2 * * *', ...berlin)).toEqual(['03-31T01:00', '04-01T00:00', '04-01T00:20', '04-01T00:40'])
    expect(ticks('0 2-3 * * *', ...berlin)).toEqual(['03-31T01:00', '04-01T00:00', '04-01T01:00'])
  })

  it('ticks once for a time that occurs twice, at the first', () => {
    const berlin = ['Europe/Berlin', '2024-10-26T12:00Z', '2024-10-28T12:00Z'] as const
    expect(ticks('30 2 * * *', ...berlin)).toEqual(['10-27T00:30', '10-28T01:30'])
    expect(ticks('*/30 2 * * *', ...berlin)).toEqual(['10-27T00:00', '10-27T00:30', '10-28T01:00', '10-28T01:30'])
    expect(ticks('30 1 * * *', 'America/New_York', '2024-11-02T12:00Z', '2024-11-04T12:00Z')).toEqual([
      '11-03T05:30',
      '11-04T06:30',
    ])
    expect(ticks('45 1 * * *', 'Australia/Lord_Howe', '2024-04-06T00:00Z', '2024-04-07T23:00Z')).toEqual([
      '04-06T14:45',
      '04-07T15:15',
    ])
    // Every other hour: 2:00 once.
    expect(ticks('0 */2 27 10 *', ...berlin).slice(0, 3)).toEqual(['10-26T22:00', '10-27T00:00', '10-27T03:00'])
  })

  it('continues in equal steps if it ticks every hour', () => {
    for (const [zone, day] of [
      ['Europe/Berlin', '2024-03-31'],
      ['Europe/Berlin', '2024-10-27'],
      ['America/New_York', '2024-11-03'],
    ] as const) {
      const all = ticksBetween(
        { cron: '*/15 * * * *', timezone: zone },
        at(`${day}T00:00Z`),
        at(`${day}T23:59Z`),
        1_000,
      )
      expect(all.slice(1).every((time, index) => time - all[index]! === 900_000)).toBe(true)
      expect(all).toHaveLength(96)
    }
  })
})

describe('a timing', () => {
  it('of an interval ticks at the same times in every process', () => {
    const timing = { everyMs: 900_000 }
    expect(nextTick(timing, at('2024-05-01T10:07:12Z'))).toBe(at('2024-05-01T10:15Z'))
    expect(nextTick(timing, at('2024-05-01T10:15Z'))).toBe(at('2024-05-01T10:30Z'))
  })

  it('returns the same ticks one by one and as the latest of many', () => {
    const timings = fc.constantFrom(
      { cron: '*/7 * * * *', timezone: 'Europe/Berlin' },
      { cron: '30 2 * * *', timezone: 'Europe/Berlin' },
      { cron: '0 1-3 * * 0', timezone: 'America/New_York' },
      { cron: '*/15 1,2 * * *', timezone: 'Australia/Lord_Howe' },
      { everyMs: 420_000 },
    )
    const range = { min: at('2024-10-20T00:00Z'), max: at('2024-11-05T00:00Z') }
    fc.assert(
      fc.property(timings, fc.integer(range), fc.integer({ min: 0, max: 3 * 86_400_000 }), (timing, from, ms) => {
        const one: number[] = []
        for (let time = nextTick(timing, from - 1)!; time <= from + ms; time = nextTick(timing, time)!) one.push(time)
        expect(ticksBetween(timing, from, from + ms, 5)).toEqual(one.slice(-5))
      }),
    )
  })

  it('returns the next times', () => {
    const times = upcoming({ cron: '0 9 * * MON-FRI', timezone: 'UTC' }, at('2024-05-03T10:00Z'), 2)
    expect(times).toEqual([at('2024-05-06T09:00Z'), at('2024-05-07T09:00Z')])
  })

  it('of an interval returns the latest of its ticks, from and to a tick inclusive', () => {
    const between = (from: number, to: number, max = 9) => ticksBetween({ everyMs: 1_000 }, from, to, max)
    expect(between(1_000, 3_000)).toEqual([1_000, 2_000, 3_000])
    expect(between(1_001, 2_999)).toEqual([2_000])
    expect(between(1_000, 9_999_000, 2)).toEqual([9_998_000, 9_999_000])
    expect(between(5_000, 4_000)).toEqual([])
    expect(upcoming({ everyMs: 1_000 }, 1_000, 3)).toEqual([2_000, 3_000, 4_000])
  })

  it('of a cron ticks at the times of its lists, ranges and steps', () => {
    const day = ['UTC', '2024-05-02T23:59:59Z', '2024-05-03T23:59Z'] as const
    expect(ticks('0 8-18/4,20 * * *', ...day)).toEqual(['05-03T08:00', '05-03T12:00', '05-03T16:00', '05-03T20:00'])
    expect(ticks('59 23 3 5 *', ...day)).toEqual(['05-03T23:59'])
    expect(ticks('0 */23 * * *', ...day)).toEqual(['05-03T00:00', '05-03T23:00'])
    expect(ticks(' */59  */1 * * * ', ...day)).toHaveLength(48)
    expect(ticks('5,5,5-6 1,1 * * *', ...day)).toEqual(['05-03T01:05', '05-03T01:06'])
  })

  it('changes as a whole or in parts; an interval has no time zone', () => {
    const cron = { cron: '0 1 * * *', timezone: 'Europe/Berlin' }
    expect(changedTiming(cron, { cron: '0 2 * * *' })).toEqual({ ...cron, cron: '0 2 * * *' })
    expect(changedTiming(cron, { timezone: 'UTC' })).toEqual({ ...cron, timezone: 'UTC' })
    expect(changedTiming(cron, { everyMs: 1_000 })).toEqual({ everyMs: 1_000 })
    expect(changedTiming({ everyMs: 1_000 }, { cron: '0 2 * * *' })).toEqual({ cron: '0 2 * * *', timezone: 'UTC' })
    expect(() => changedTiming({ everyMs: 1_000 }, { timezone: 'UTC' })).toThrow(
      'timezone needs cron: intervals count from 1970 in UTC',
    )
  })

  it('reports an invalid cron, time zone or interval', () => {
    const wrong =
      (cron: string, zone = 'UTC') =>
      () =>
        checkCron(cron, zone)
    expect(wrong('61 * * * *')).toThrow(/minute "61".*0-59/)
    expect(wrong('0 24 * * *')).toThrow(/hour "24"/)
    expect(wrong('0 0 32 * *')).toThrow(/day of the month "32"/)
    expect(wrong('0 0 * 13 *')).toThrow(/month "13"/)
    expect(wrong('0 0 * * MOO')).toThrow(/day of the week "MOO".*such as "30 2/)
    expect(wrong('? * * * *')).toThrow(/minute "\?"/)
    expect(wrong('0 0 1 1 * *')).toThrow(/five fields/)
    expect(wrong('@daily')).toThrow(/five fields/)
    expect(wrong('0 0 31 2 *')).toThrow(/never ticks/)
    expect(wrong('0 0 * * *', 'Europe/Berln')).toThrow(/did you mean.*Europe\/Berlin/)
    expect(wrong('0 0 * * *', 'New York')).toThrow(/America\/New_York/)
    expect(wrong('0 0 * * *', 'Germany/berlin')).toThrow(/did you mean Europe\/Berlin\?/)
    expect(wrong('0 0 * * *', 'B'.repeat(100_000))).toThrow(/use a name such as Europe\/Berlin/)
    expect(wrong('0 0 * * *', '+02:00')).toThrow(/not an IANA time zone/)
    expect(() => checkCron('0 0 L * MON#1', 'Europe/Berlin')).not.toThrow()
    expect(() => checkEvery(999)).toThrow(/1 second/)
    expect(() => checkEvery(1_000)).not.toThrow()
    expect(() => checkEvery(366 * 86_400_000)).not.toThrow()
    expect(() => checkEvery(366 * 86_400_000 + 1)).toThrow(/every must be from 1 second to 366 days/)
    expect(() => checkCron('0 * * * *'.padEnd(CRON_CHARS_MAX), 'UTC')).not.toThrow()
    expect(wrong('0 * * * *'.padEnd(CRON_CHARS_MAX + 1))).toThrow(/^cron "0 \* \* \* \* {71}" must have five fields/)
    expect(() => checkCron('  0  0 1 1 *\t', 'utc')).not.toThrow()
  })
})

describe('a schedule', () => {
  const START = at('2024-05-01T10:00:30Z')
  const minute = (n: number) => at('2024-05-01T10:00Z') + n * 60_000
  /** All that it does at one time, one tick after another. */
  const made = (schedule: Schedule, now: number) => {
    const times: (number | null)[] = []
    let nextAt = schedule.nextAt
    while (nextAt !== null && nextAt <= now) {
      const tick = dueTick({ ...schedule, nextAt }, now)
      times.push(tick.at)
      nextAt = tick.nextAt
    }
    return { times, nextAt }
  }

  it('does nothing before its tick, and each tick once', () => {
    const schedule = newSchedule(spec(), START)
    expect(schedule.nextAt).toBe(minute(1))
    expect(dueTick(schedule, minute(1) - 1)).toEqual({ at: null, nextAt: minute(1) })
    expect(dueTick(schedule, minute(1))).toEqual({ at: minute(1), nextAt: minute(2) })
  })

  it('catches up on no tick, on one or on all, as configured', () => {
    const missed = (more: Partial<ScheduleSpec>) => made(newSchedule(spec(more), START), minute(5) + 20_000)
    expect(missed({ catchUp: 'one' })).toEqual({ times: [minute(5)], nextAt: minute(6) })
    expect(missed({ catchUp: 'all' })).toEqual({ times: [1, 2, 3, 4, 5].map(minute), nextAt: minute(6) })
    // The latest one is on time.
    expect(missed({ catchUp: 'none' })).toEqual({ times: [minute(5)], nextAt: minute(6) })
    const hourly = { timing: { everyMs: 3_600_000 }, catchUp: 'none' } as const
    expect(made(newSchedule(spec(hourly), START), minute(61) + 1)).toEqual({ times: [null], nextAt: minute(120) })
    expect(missed({ catchUp: 'all', overlap: 'skip' }).times).toEqual([minute(5)])
  })

  it('catches up on at most the latest hundred ticks', () => {
    const { times, nextAt } = made(newSchedule(spec({ catchUp: 'all' }), START), minute(100_000))
    expect([times.length, times[0], times.at(-1), nextAt]).toEqual([
      100,
      minute(99_901),
      minute(100_000),
      minute(100_001),
    ])
  })

  it('has missed nothing after a pause or a change of its times', () => {
    const schedule = newSchedule(spec(), START)
    const paused = changedSchedule(schedule, { paused: true }, minute(1))
    expect(paused.nextAt).toBeNull()
    expect(changedSchedule(paused, { paused: false }, minute(9) + 1).nextAt).toBe(minute(10))
    expect(changedSchedule(schedule, { timing: { everyMs: 120_000 } }, minute(9) + 1).nextAt).toBe(minute(10))
    // Of a change of anything else no tick is lost.
    expect(changedSchedule(schedule, { task: { type: 't', payload: 1 } }, minute(9) + 1)).toMatchObject({
      nextAt: minute(1),
      task: { type: 't', payload: 1 },
    })
  })

  it('counts as on time for a minute', () => {
    const late = (ms: number) =>
      dueTick(newSchedule(spec({ catchUp: 'none', timing: { everyMs: 3_600_000 } }), START), minute(60) + ms)
    expect(late(60_000)).toEqual({ at: minute(60), nextAt: minute(120) })
    expect(late(60_001)).toEqual({ at: null, nextAt: minute(120) })
    expect(dueTick({ ...newSchedule(spec(), START), nextAt: null }, minute(9))).toEqual({ at: null, nextAt: null })
  })

  it('is new without a task; a change keeps what it does not name, and belongs to the type of the schedule', () => {
    const schedule = newSchedule(spec(), START)
    const times = { lastAt: null, lastTaskId: null, createdAt: START, updatedAt: START }
    expect(schedule).toEqual({ ...spec(), nextAt: minute(1), ...times })
    expect(newSchedule(spec({ paused: true }), START).nextAt).toBeNull()
    const renamed = changedSchedule(schedule, { overlap: 'skip', task: { type: 't', priority: 3 } }, minute(5))
    const changedTask = { ...task, priority: 3 }
    expect(renamed).toEqual({ ...schedule, overlap: 'skip', task: changedTask, updatedAt: minute(5) })
    expect(() => changedSchedule(schedule, { task: { type: 'other' } }, minute(5))).toThrow(
      expect.objectContaining({ code: 'not_found', message: 'schedule "s" not found: see /api/v1/schedules' }),
    )
    const byDefault = { ...schedule, task: { ...task, byDefault: ['maxRetry', 'uses'] as const } }
    const filled = (changes: object) => changedSchedule(byDefault, changes, minute(5)).task.byDefault
    expect([filled({ task: { type: 't', maxRetry: 3 } }), filled({ overlap: 'skip' })]).toEqual([
      ['uses'],
      ['maxRetry', 'uses'],
    ])
  })

  it('is the same as one with the same request, whatever filled its defaults', () => {
    const schedule = newSchedule(spec(), START)
    expect(isSameSchedule(spec(), schedule)).toBe(true)
    const byDefault = ['maxRetry'] as const
    const other = newSchedule(spec({ task: { ...task, maxRetry: 9, byDefault } }), START)
    expect(isSameSchedule(spec({ task: { ...task, byDefault } }), other)).toBe(true)
    expect(isSameSchedule(spec({ task: { ...task, priority: 1 } }), schedule)).toBe(false)
    for (const change of [{ catchUp: 'all' }, { overlap: 'skip' }, { paused: true }, { timing: { everyMs: 1 } }]) {
      expect(isSameSchedule(spec(change as Partial<ScheduleSpec>), schedule)).toBe(false)
    }
  })

  it('from before text was checked creates tasks with repaired text', () => {
    const old = newSchedule(spec({ task: { ...task, payload: ['a\ud83d', '\\ud83d'] } }), START)
    expect(specAt(old, null).payload).toEqual(['a\ufffd', '\\ud83d'])
  })

  it('creates tasks with the tick in their key', () => {
    const schedule = newSchedule(spec({ id: 'a:b' }), START)
    const { idempotencyKey } = specAt(schedule, minute(1))
    expect(idempotencyKey).toBe('schedule:a:b:2024-05-01T10:01:00.000Z')
    expect(tickOfKey(idempotencyKey)).toEqual({ id: 'a:b', at: minute(1) })
    expect([tickOfKey(null), tickOfKey('schedule:x'), specAt(schedule, null).idempotencyKey]).toEqual([
      null,
      null,
      null,
    ])
  })
})
