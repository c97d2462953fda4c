import { beforeAll, describe, expect, it, vi } from 'vitest'
import { createClient } from '../../src/index.ts'
import type { HandlerContext } from '../../src/worker/handler.ts'
import type { Body } from '../fixtures/api.ts'
import { type Server, startServer } from '../fixtures/server.ts'

/** Ends when the test says so. */
let go: () => void = () => undefined
const handlers = {
  talks: {
    maxRetry: 1,
    retry: { delay: 0.001 },
    run: ({ payload }: { payload: unknown }, { log, attempt }: HandlerContext) => {
      log.info({ attempt, payload }, 'begun')
      log.child({ part: 'inner' }).warn('careful')
      if (attempt === 1) throw new Error('once')
      log.error({ err: new Error('seen', { cause: new Error('why') }) }, 'odd')
    },
  },
  odd: {
    run: (_task: unknown, { log }: HandlerContext) => {
      const line = log.info as (...args: unknown[]) => void
      line('%s of %d: %j', 'one', 2, { three: 3 })
      line(new Error('alone'))
      line({ big: 1n, map: new Map([[1, 2]]) }, 'values')
      line({
        self: Object.defineProperty({}, 'x', {
          enumerable: true,
          get: () => {
            throw new Error('no')
          },
        }),
      })
      line('x'.repeat(20_000))
      line('\ud83d half')
      log.debug('not kept unless the process writes it')
      line(`xq_${'k'.repeat(20)}_secret`)
    },
  },
  waits: {
    run: async (_task: unknown, { log }: HandlerContext) => {
      log.info('waiting')
      await new Promise<void>((resolve) => {
        go = resolve
      })
      log.info('gone')
    },
  },
  many: {
    run: (_task: unknown, { log }: HandlerContext) => {
      for (let n = 0; n < 3_000; n++) log.info(`line ${n}`)
    },
  },
}
let server: Server

beforeAll(async () => {
  server = await startServer({}, handlers)
})

const ended = async (of: Server, type: string, payload: unknown = {}): Promise<string> => {
  const id = await of.submit(type, payload)
  await vi.waitFor(async () => expect((await of.queue.get([id]))[0]!.completedAt).not.toBeNull(), { timeout: 30_000 })
  return id
}
const linesOf = async (of: Server, id: string): Promise<Body[]> =>
  (await of.call('GET', `/tasks/${id}/logs`)).body.lines

describe('GET /tasks/:id/logs', () => {
  it('returns the lines of each attempt with their fields, also in the log of the process', async () => {
    const id = await ended(server, 'talks', { a: 1 })
    const { status, body } = await server.call('GET', `/tasks/${id}/logs`)
    expect([status, body.left_out, body.last, body.done]).toEqual([200, 0, 5, true])
    const line = { delivery: expect.any(Number), time: expect.stringMatching(/Z$/) }
    const stack = expect.stringMatching(/^Error: seen\n[\s\S]*\[cause\]: Error: why\n/)
    expect(body.lines).toEqual([
      { ...line, n: 1, attempt: 1, level: 'info', message: 'begun', fields: { attempt: 1, payload: { a: 1 } } },
      { ...line, n: 2, attempt: 1, level: 'warn', message: 'careful', fields: { part: 'inner' } },
      { ...line, n: 3, attempt: 2, level: 'info', message: 'begun', fields: { attempt: 2, payload: { a: 1 } } },
      { ...line, n: 4, attempt: 2, level: 'warn', message: 'careful', fields: { part: 'inner' } },
      { ...line, n: 5, attempt: 2, level: 'error', message: 'odd', fields: { err: stack } },
    ])
    const process = server.log.map((text) => JSON.parse(text)).filter(({ task_id }) => task_id === id)
    const messages = ['begun', 'careful', 'an attempt failed', 'begun', 'careful', 'odd']
    expect(process.map(({ msg }) => msg)).toEqual(messages)
    expect((await server.call('GET', `/tasks/${id}/logs?after=3&limit=1`)).body).toMatchObject({
      lines: [{ n: 4 }],
      last: 4,
      done: false,
    })
    expect((await server.call('GET', '/tasks/none/logs')).status).toBe(404)
    expect((await server.call('GET', `/tasks/${id}/logs?after=-1`)).status).toBe(400)
  })

  it('keeps a line whatever a handler logs', async () => {
    const lines = await linesOf(server, await ended(server, 'odd'))
    const at = (n: number) => [lines[n]!.message, lines[n]!.fields]
    expect(at(0)).toEqual(['one of 2: {"three":3}', null])
    expect(at(1)).toEqual(['alone', { err: expect.stringContaining('Error: alone\n') }])
    expect(at(2)).toEqual(['values', { unreadable: expect.stringContaining('fields.map') }])
    expect(at(3)).toEqual(['', { unreadable: expect.any(String) }])
    expect(lines[4]!.message).toMatch(/^x{1000,}… \(cut\)$/)
    expect(lines[5]!.message).toBe('\ufffd half')
    // The process of this test writes all levels.
    expect(lines[6]!.message).toMatch(/^not kept/)
    expect(lines[7]!.message).not.toContain('secret')
  })

  it('keeps the last thousand lines', async () => {
    const id = await ended(server, 'many')
    const { body } = await server.call('GET', `/tasks/${id}/logs`)
    expect(body).toMatchObject({ left_out: 2_000, last: 3_000, lines: { 0: { n: 2_001, message: 'line 2000' } } })
    expect(body.lines).toHaveLength(1_000)
  })

  it('sends lines as they are written, while the attempt runs', async () => {
    const id = await server.submit('waits')
    const answer = await fetch(`${server.url}/api/v1/tasks/${id}/logs`, { headers: { Accept: 'text/event-stream' } })
    expect(answer.headers.get('content-type')).toBe('text/event-stream')
    let text = ''
    for await (const chunk of answer.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk
      if (text.includes('"waiting"') && !text.includes('"gone"')) go()
    }
    expect((await server.queue.get([id]))[0]!.status).toBe('success')
    expect(text.match(/^(?:event|id): .*$/gm)).toEqual(['event: log', 'id: 1', 'event: log', 'id: 2', 'event: end'])
    const resumed = async (last: string) => {
      const headers = { Accept: 'text/event-stream', 'Last-Event-ID': last }
      return (await fetch(`${server.url}/api/v1/tasks/${id}/logs`, { headers })).text()
    }
    expect(await resumed('1')).not.toContain('"waiting"')
    for (const none of ['0x1', '1e0', '1.0', 'abc']) expect(await resumed(none)).toContain('"waiting"')
  })

  it('is typed in the client', async () => {
    const { lines, done } = await createClient(server.url).logs(await ended(server, 'talks'), { after: 4 })
    expect(lines).toMatchObject([{ n: 5, level: 'error', time: expect.any(Date) }])
    expect(done).toBe(true)
  })
})

it('takes lines from workers in any language: with a turn, a heartbeat and an outcome', async () => {
  await server.call('POST', '/types/foreign', { declared: true })
  const id = await server.submit('foreign')
  const { body } = await server.call('POST', '/tasks/consume', { types: ['foreign'], wait: 20 })
  const { lease } = body.leases[0]
  const time = '2026-01-02T03:04:05.678Z'
  const one = { message: 'one', level: 'warn', time, fields: { a: { b: 1 } } }
  expect((await server.call('POST', '/tasks/turn', { logs: [{ lease, lines: [one], skipped: 2 }] })).status).toBe(200)
  const beat = await server.call('POST', `/leases/${lease}/heartbeat`, { logs: [{ message: 'two' }] })
  expect(beat.status).toBe(200)
  await server.call('POST', `/leases/${lease}/complete`, { result: 1, logs: [{ message: 'three' }] })
  const lines = await linesOf(server, id)
  expect(lines[0]).toEqual({ n: 3, delivery: 1, attempt: 1, ...one })
  expect(lines.map(({ n, message }) => [n, message])).toEqual([
    [3, 'one'],
    [4, 'two'],
    [5, 'three'],
  ])
  const bad = await server.call('POST', '/tasks/turn', { logs: [{ lease, lines: [{ message: 1 }] }] })
  expect([bad.status, bad.body.errors[0].path]).toEqual([400, 'logs[0].lines[0].message'])
})

describe('the lines are contents', () => {
  it('hidden by --redact, as a whole or some fields, and from keys that see no contents', async () => {
    const redacting = await startServer({ redact: 'log.fields.payload' }, handlers)
    expect((await linesOf(redacting, await ended(redacting, 'talks', 'card 4711')))[0]).toMatchObject({
      message: 'begun',
      fields: { attempt: 1, payload: '[redacted]' },
    })
    const whole = await startServer({ redact: 'log' }, handlers)
    expect((await linesOf(whole, await ended(whole, 'talks')))[0]).toMatchObject({
      message: '[redacted]',
      fields: null,
    })
    const keyed = await startServer({ auth: 'keys' }, handlers)
    const id = (await keyed.as(await keyed.key(['submit'])).call('POST', '/tasks', { type: 'talks' })).body.id
    const isOver = async () => expect((await keyed.queue.get([id]))[0]!.completedAt).not.toBeNull()
    await vi.waitFor(isOver, { timeout: 30_000 })
    const viewer = await keyed.as(await keyed.key(['view'])).get(`/tasks/${id}/logs`)
    expect(viewer.body.lines[0]).toMatchObject({ n: 1, level: 'info', message: null, fields: null })
  })

  it('encrypted at rest with the payload keys', async () => {
    const keys = `k=${'A'.repeat(43)}=`
    const sealed = await startServer({ 'payload-keys': keys }, handlers)
    const id = await ended(sealed, 'talks', 'card 4711')
    expect((await linesOf(sealed, id))[0]).toMatchObject({ message: 'begun', fields: { payload: 'card 4711' } })
    // The test reads without the key.
    const { lines } = (await sealed.queue.logs(id, 0, 10))!
    expect(lines[0]!.message).toMatch(/^sealed:k:/)
    expect(JSON.stringify(lines)).not.toMatch(/begun|4711/)
  })

  it('not kept with --log-lines 0', async () => {
    const off = await startServer({ 'log-lines': '0' }, handlers)
    expect(await linesOf(off, await ended(off, 'talks'))).toEqual([])
    expect(off.log.some((text) => text.includes('careful'))).toBe(true)
  })
})
