import { pino } from 'pino'
import { beforeEach, expect, it } from 'vitest'
import { VirtualTime } from '../../src/testing/virtual-time.ts'
import { Attempt, type AttemptHost } from '../../src/worker/attempt.ts'
import { Deadlines } from '../../src/worker/deadlines.ts'
import type { HandlerLease } from '../../src/worker/handler.ts'
import type { RegisteredHandler } from '../../src/worker/handlers.ts'

const START = 1_000_000
/** Maximum of a Node timer. */
const TIMER_MS_MAX = 2 ** 31 - 1

/** Attempts that hang until their deadline, on a clock that the test moves. */
let time: VirtualTime
let running: Map<string, Attempt>
let ended: [id: string, kind: string, afterMs: number][]
let deadlines: Deadlines
/** Runs when an attempt has ended. */
let onEnd: () => void
/** Number of timers made. */
let timers: number

beforeEach(() => {
  time = new VirtualTime(START)
  running = new Map()
  ended = []
  onEnd = () => undefined
  timers = 0
  const { now, elapsed } = time
  const after = (ms: number, run: () => void) => {
    timers += 1
    expect(ms).toBeLessThanOrEqual(TIMER_MS_MAX)
    return time.after(ms, run)
  }
  deadlines = new Deadlines({ now, elapsed, after }, () => [...running.values()])
})

const host: AttemptHost = {
  logger: pino({ level: 'silent' }),
  time: { now: () => time.now(), elapsed: () => time.elapsed(), after: (ms, run) => time.after(ms, run) },
  held: () => ({}) as HandlerLease,
  progressed: () => undefined,
  logged: undefined,
  read: async () => null,
  ended: ({ lease }, outcome) => {
    running.delete(lease.lease)
    ended.push([lease.lease, outcome.kind, time.elapsed()])
    onEnd()
  },
}
const handler = { payload: null, run: () => new Promise(() => undefined) } as Partial<RegisteredHandler>

/** Starts an attempt with this much time; null: without a deadline. */
function start(lease: string, ms: number | null): Attempt {
  const deadlineAt = ms === null ? null : time.now() + ms
  const task = { id: lease, type: 't', payload: null, attempts: 0, tags: {} }
  const parts = { lease, deadlineAt, task, predecessors: [] } as unknown as Attempt['lease']
  const attempt = new Attempt(host, handler as RegisteredHandler, parts, 0)
  running.set(lease, attempt)
  if (deadlineAt !== null) deadlines.add(deadlineAt)
  void attempt.run()
  return attempt
}

it('ends each attempt at its own deadline, in whatever order they started', async () => {
  start('b', 200)
  start('a', 100)
  start('never', null)
  start('c', 300)
  start('also b', 200)
  await time.pass(99)
  expect(ended).toEqual([])
  await time.pass(10_000)
  expect(ended).toEqual([
    ['a', 'timeout', 100],
    ['b', 'timeout', 200],
    ['also b', 'timeout', 200],
    ['c', 'timeout', 300],
  ])
  expect([...running.keys()]).toEqual(['never'])
  expect(time.untilNext()).toBe(Number.POSITIVE_INFINITY)
})

it('aborts the signal of the handler with a TimeoutError', async () => {
  const { signal } = start('a', 100)
  await time.pass(100)
  expect(signal.reason).toMatchObject({ name: 'TimeoutError', message: 'the attempt timed out' })
})

it('keeps the deadline of an attempt that starts when another one times out', async () => {
  onEnd = () => {
    onEnd = () => undefined
    start('next', 50)
  }
  start('a', 100)
  start('later', 400)
  await time.pass(1_000)
  expect(ended).toEqual([
    ['a', 'timeout', 100],
    ['next', 'timeout', 150],
    ['later', 'timeout', 400],
  ])
})

it('makes one timer for many attempts that end before their deadlines', async () => {
  for (let index = 0; index < 1_000; index++) {
    start(`quick ${index}`, 10_000)
    running.clear()
    await time.pass(1)
  }
  start('slow', 10_000)
  await time.pass(9_999)
  expect(ended).toEqual([])
  await time.pass(1)
  expect(ended).toEqual([['slow', 'timeout', 11_000]])
  expect(timers).toBeLessThanOrEqual(3)
})

it('waits longer than the maximum of a timer', async () => {
  start('long', TIMER_MS_MAX + 5_000)
  await time.pass(TIMER_MS_MAX + 4_999)
  expect(ended).toEqual([])
  await time.pass(1)
  expect(ended).toEqual([['long', 'timeout', TIMER_MS_MAX + 5_000]])
})

it('goes by the clock where it was set back during the wait', async () => {
  start('a', 100)
  time.stepClock(-40)
  await time.pass(139)
  expect(ended).toEqual([])
  await time.pass(1)
  expect(ended).toEqual([['a', 'timeout', 140]])
})

it('ends an attempt at once whose deadline is over before its start', async () => {
  start('late', -5)
  await time.pass(1)
  expect(ended).toEqual([['late', 'timeout', 1]])
})

it('ends nothing after it was closed', async () => {
  start('a', 100)
  deadlines.close()
  await time.pass(1_000)
  expect(ended).toEqual([])
})
