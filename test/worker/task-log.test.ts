import { pino } from 'pino'
import { expect, it } from 'vitest'
import { isStorableLine, LOG_LIMITS, logLineOf, logText } from '../../src/task/log-line.ts'
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

/** The lines that are kept of calls of a log, parsed. */
function kept(call: (log: ReturnType<typeof keptLog>) => void, level = 'silent') {
  const lines: string[] = []
  const written: string[] = []
  const logger = pino({ level, base: null }, { write: (line) => void written.push(line) })
  call(
    keptLog(
      logger,
      (line) => lines.push(line),
      () => 0,
    ),
  )
  const place = { n: 1, delivery: 1, attempt: 1 }
  return { lines: lines.map((text) => logLineOf({ ...place, text })), written: written.length }
}

it('keeps lines from info on, and lower ones that the process writes as well', () => {
  const all = (log: ReturnType<typeof keptLog>) => {
    log.trace('1')
    log.debug('2')
    log.info('3')
    log.warn('4')
    log.error('5')
    log.fatal('6')
  }
  const levels = (level: string) => {
    const { lines, written } = kept(all, level)
    return [lines.map((line) => line.level).join(' '), written]
  }
  expect(levels('silent')).toEqual(['info warn error fatal', 0])
  expect(levels('error')).toEqual(['info warn error fatal', 2])
  expect(levels('debug')).toEqual(['debug info warn error fatal', 5])
})

it('keeps the fields of a line and of the log that it is written with', () => {
  const { lines } = kept((log) => {
    const child = log.child({ a: 1, b: 2 }).child({ b: 3 })
    child.info('of the log')
    child.info({ c: 4, a: 5 }, 'and its own')
    child.info({ c: 4 })
    child.error(new TypeError('no'))
    child.error({ err: new TypeError('no') }, 'instead')
    log.info(null as never)
    log.info('big %s', ...([1n, 2] as never[]))
    log.info({ n: 1n }, 'big')
  })
  const stack = expect.stringMatching(/^TypeError: no\n {4}at /)
  const place = { n: 1, delivery: 1, attempt: 1, time: '1970-01-01T00:00:00.000Z' }
  expect(lines).toEqual([
    { ...place, level: 'info', message: 'of the log', fields: { a: 1, b: 3 } },
    { ...place, level: 'info', message: 'and its own', fields: { a: 5, b: 3, c: 4 } },
    { ...place, level: 'info', message: '', fields: { a: 1, b: 3, c: 4 } },
    { ...place, level: 'error', message: 'no', fields: { a: 1, b: 3, err: stack } },
    { ...place, level: 'error', message: 'instead', fields: { a: 1, b: 3, err: stack } },
    { ...place, level: 'info', message: 'null', fields: null },
    { ...place, level: 'info', message: 'big 1', fields: null },
    { ...place, level: 'info', message: 'big', fields: { n: '1' } },
  ])
})

it('says why fields cannot be read, and masks tokens', () => {
  const failing = {
    get a() {
      throw new Error('no getter')
    },
  }
  const { lines } = kept((log) => {
    log.info({ deep: { n: Number.NaN, big: 1n } }, 'x')
    log.info(failing, 'y')
    log.info({ key: `xq_${'a'.repeat(43)}` }, `with xq_${'b'.repeat(43)}`)
  })
  expect(lines.map(({ message, fields }) => [message, fields])).toEqual([
    ['x', { unreadable: expect.stringMatching(/^fields\.deep\.n is NaN, which JSON/) }],
    ['', { unreadable: expect.stringMatching(/^Error: no getter/) }],
    ['with [token]', { key: '[token]' }],
  ])
})

it('cuts a long message, and leaves its fields out', () => {
  const parse = (text: string) => logLineOf({ n: 1, delivery: 1, attempt: 1, text })
  const head = logText(0, 'info', '', '').length
  const room = LOG_LIMITS.lineBytesMax - head
  expect(parse(logText(0, 'info', 'x'.repeat(room), '')).message).toHaveLength(room)
  expect(parse(logText(0, 'info', 'x', '{"a":1}')).fields).toEqual({ a: 1 })
  for (const char of ['x', 'é', '\u0000', '\ud83d']) {
    const text = logText(0, 'info', char.repeat(room + 1), '{"a":1}')
    const kept = Math.floor((LOG_LIMITS.lineBytesMax - 100) / 6)
    expect(parse(text)).toMatchObject({ message: `${char.toWellFormed().repeat(kept)}… (cut)`, fields: null })
    expect(isStorableLine(text)).toBe(true)
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(LOG_LIMITS.lineBytesMax)
  }
})

it('stores lines of text within their bounds', () => {
  const max = LOG_LIMITS.storedLineBytesMax
  const storable = ['x', 'x'.repeat(max), 'é'.repeat(max / 2)]
  const others = ['x'.repeat(max + 1), 'é'.repeat(max / 2 + 1), 'a\nb', 'a\ud83d', 7, null, undefined]
  expect(storable.map(isStorableLine)).toEqual(storable.map(() => true))
  expect(others.map(isStorableLine)).toEqual(others.map(() => false))
})

it('is silent after it was closed or its lines were forgotten, and calls once for many lines', () => {
  const { logs, fire, dueTimes } = unsent()
  logs.add('a', '1')
  logs.add('b', '2')
  fire()
  expect(dueTimes()).toBe(1)
  logs.forget('a')
  expect(logs.take([])).toEqual([{ lease: 'b', lines: ['2'], skipped: 0 }])
  // They are due once: later lines wait for their own time.
  logs.add('a', '3')
  expect(logs.take([])).toEqual([])
  fire()
  expect([dueTimes(), logs.take([])]).toEqual([2, [{ lease: 'a', lines: ['3'], skipped: 0 }]])
})

it('keeps a line that alone is longer than all may be, and counts those before it also after they came back', () => {
  const { logs } = unsent()
  logs.add('a', 'x')
  logs.add('a', 'y'.repeat(LOG_LIMITS.bytesMax + 1))
  const taken = logs.take([{ lease: 'a' }])
  expect([taken[0]!.lines.length, taken[0]!.skipped]).toEqual([1, 1])
  logs.add('a', 'z')
  logs.restore(taken)
  const [log] = logs.take([{ lease: 'a' }])
  expect([log!.lines, log!.skipped]).toEqual([['z'], 2])
  logs.restore([{ lease: 'b', lines: ['1'] }])
  expect(logs.take([{ lease: 'b' }])).toEqual([{ lease: 'b', lines: ['1'], skipped: 0 }])
})
