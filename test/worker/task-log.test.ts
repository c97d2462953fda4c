import { pino } from 'pino'
import { expect, it } from 'vitest'
import { LOG_LIMITS } from '../../src/task/log-line.ts'
import { keptLog, UnsentLogs } from '../../src/worker/task-log.ts'

/** The timer fires when the test says so. */
function unsent() {
  const timers: (() => void)[] = []
  let due = 0
  const logs = new UnsentLogs(
    (_ms, act) => {
      timers.push(act)
      return () => undefined
    },
    () => {
      due += 1
    },
  )
  const fire = () => {
    for (const act of timers.splice(0)) act()
  }
  return { logs, fire, dueTimes: () => due }
}

it('sends lines of a running attempt when they are due, and those of an ended one with its outcome', () => {
  const { logs, fire, dueTimes } = unsent()
  logs.add('a', '1')
  logs.add('b', '2')
  expect(logs.take([])).toEqual([])
  expect(logs.take([{ lease: 'b' }])).toEqual([{ lease: 'b', lines: ['2'], skipped: 0 }])
  fire()
  expect(dueTimes()).toBe(1)
  expect(logs.take([])).toEqual([{ lease: 'a', lines: ['1'], skipped: 0 }])
  logs.add('a', '3')
  expect(logs.take([{ lease: 'a' }])).toHaveLength(1)
  // All of them have gone with an outcome: nothing is due.
  fire()
  expect(dueTimes()).toBe(1)
})

it('puts lines that could not be sent before later ones', () => {
  const { logs } = unsent()
  logs.add('a', '1')
  const taken = logs.take([{ lease: 'a' }])
  logs.add('a', '2')
  logs.restore(taken)
  expect(logs.take([{ lease: 'a' }])).toEqual([{ lease: 'a', lines: ['1', '2'], skipped: 0 }])
})

it('keeps the last lines of an attempt, bounded in lines and in bytes, and counts the others', () => {
  const { logs } = unsent()
  for (let n = 0; n < LOG_LIMITS.linesMax + 5; n++) logs.add('a', String(n))
  const [log] = logs.take([{ lease: 'a' }])
  expect([log!.lines.length, log!.lines[0], log!.skipped]).toEqual([LOG_LIMITS.linesMax, '5', 5])
  const line = 'x'.repeat(8_000)
  for (let n = 0; n < 100; n++) logs.add('a', line)
  const [large] = logs.take([{ lease: 'a' }])
  expect(large!.lines.length * line.length).toBeLessThanOrEqual(LOG_LIMITS.bytesMax)
  expect(large!.lines.length + large!.skipped!).toBe(100)
})

it('sends lines of very many attempts in several turns', () => {
  const { logs, fire } = unsent()
  for (let n = 0; n < 300; n++) logs.add(`lease ${n}`, 'x'.repeat(8_000))
  fire()
  const counts: number[] = []
  for (let taken = logs.take([]); taken.length > 0; taken = logs.take([])) counts.push(taken.length)
  expect(counts.length).toBeGreaterThan(1)
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(300)
})

it.each<[unknown[], string]>([
  [['a %s of %d%%, %j', 'text', 3, { a: 1 }, 'unused'], 'a text of 3%, {"a":1}'],
  [['nothing for %s'], 'nothing for %s'],
  [['%i and %s', 1, undefined], '1 and %s'],
  [[{ n: 1 }, 'with fields: %s', 'x'], 'with fields: x'],
  [[new Error('why')], 'why'],
])('writes %j as Pino does', (args, message) => {
  const lines: string[] = []
  const log = keptLog(
    pino({ level: 'silent' }),
    (line) => lines.push(line),
    () => 0,
  )
  ;(log.error as (...args: unknown[]) => void)(...args)
  expect(lines).toEqual([expect.stringContaining(JSON.stringify(message))])
})
