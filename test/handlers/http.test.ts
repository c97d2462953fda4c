import { once } from 'node:events'
import fc from 'fast-check'
import { pino } from 'pino'
// @ts-expect-error It has no types: it is for the tests of undici.
import { tick } from 'undici/lib/util/timers.js'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { http } from '../../handlers/http.ts'
import { retryAfterMs, retryAfterNote } from '../../handlers/retry-after.ts'
import { useTarget } from './http-target.ts'
import { closedPort, effectOf, ID, KIB, run } from './run-handler.ts'

beforeEach(() => {
  for (const name of ['SMTP_URL', 'OUTBOX', 'HTTP_ALLOW_PRIVATE', 'HTTP_SECRET', 'HTTP_SECRETS']) {
    vi.stubEnv(`XQUEUE_${name}`, undefined)
  }
})
afterEach(() => vi.unstubAllEnvs())

const target = useTarget()

describe('the http handler', () => {
  describe('calls', () => {
    it('a URL with GET, names itself and the task, and returns the answer', async () => {
      target.answers(201, { 'Content-Type': 'text/plain' }, 'made')
      const result = await run(http, { url: `${target.base}/a?b=c` })
      expect(result).toEqual({ status: 201, url: `${target.base}/a?b=c`, content_type: 'text/plain', body: 'made' })
      expect(target.calls).toMatchObject([{ method: 'GET', url: '/a?b=c', body: '' }])
      expect(target.calls[0]!.headers).toMatchObject({ 'user-agent': 'XQueue', 'x-xqueue-task-id': ID })
    })

    it('succeeds with no body and no content type', async () => {
      target.answers(204, {}, '')
      expect(await run(http, { url: target.base })).toMatchObject({ status: 204, content_type: null, body: '' })
    })

    it('posts a string unchanged', async () => {
      await run(http, { url: target.base, body: 'a=1' })
      expect(target.calls).toMatchObject([{ method: 'POST', body: 'a=1' }])
      expect(target.calls[0]!.headers['content-type']).toBeUndefined()
    })

    it.each([[{ grüße: [1, null] }], [[]], [0], [false], [null]])('posts %j as JSON', async (body) => {
      await run(http, { url: target.base, body })
      expect(target.calls).toMatchObject([{ method: 'POST', body: JSON.stringify(body) }])
      expect(target.calls[0]!.headers['content-type']).toBe('application/json')
    })

    it.each(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'] as const)('with the method %s', async (method) => {
      expect(await effectOf(run(http, { url: target.base, method }))).toBe('succeeds')
      expect(target.calls).toMatchObject([{ method }])
    })

    it('with the headers of the payload, in any case, in place of its own', async () => {
      await run(http, {
        url: target.base,
        body: {},
        headers: { 'User-Agent': 'me', 'CONTENT-TYPE': 'application/x', 'X-A': 'b' },
      })
      expect(target.calls[0]!.headers).toMatchObject({
        'user-agent': 'me',
        'content-type': 'application/x',
        'x-a': 'b',
      })
    })

    it('with the real id of the task, whatever the payload contains', async () => {
      await run(http, { url: target.base, headers: { 'X-XQueue-Task-Id': 'forged' } })
      expect(target.calls[0]!.headers['x-xqueue-task-id']).toBe(ID)
    })
  })

  describe('judges', () => {
    it.each([408, 429, 500, 502, 503, 504, 599])('%i as worth a retry', async (status) => {
      target.answers(status)
      expect(await effectOf(run(http, { url: target.base }))).toBe('is retried')
    })

    it.each([304, 400, 401, 403, 404, 409, 410, 422, 499])('%i as final', async (status) => {
      target.answers(status)
      expect(await effectOf(run(http, { url: target.base }))).toBe('fails for good')
    })

    it('an error by its status and the start of its body, without the query', async () => {
      target.answers(500, {}, `broken${'!'.repeat(KIB)}`)
      const call = run(http, { url: `${target.base}/a?token=hush` })
      await expect(call).rejects.toThrow(new RegExp(`^${target.base}/a answered 500: broken!{494}$`))
    })

    it('a refused connection as worth a retry', async () => {
      expect(await effectOf(run(http, { url: `http://127.0.0.1:${await closedPort()}` }))).toBe('is retried')
    })

    it('a connection that breaks before the answer as worth a retry', async () => {
      target.answer = (request) => request.socket.destroy()
      expect(await effectOf(run(http, { url: target.base }))).toBe('is retried')
    })

    it('a connection that breaks within the answer as worth a retry', async () => {
      target.answer = (request, response) => {
        response.writeHead(200, { 'Content-Length': '100' })
        response.write('half', () => request.socket.destroy())
      }
      expect(await effectOf(run(http, { url: target.base }))).toBe('is retried')
    })

    it.each(['nowhere', 'http://', 'http://a b/', 'http://[::1', 'http://256.256.256.256'])(
      'the URL %j as final',
      async (url) => {
        expect(await effectOf(run(http, { url }))).toBe('fails for good')
      },
    )

    it.each([
      ['an invalid name', { 'a b': 'c' }],
      ['a line break', { 'x-a': 'b\r\nX-Injected: c' }],
      ['a header that frames the message', { 'Transfer-Encoding': 'chunked' }],
      ['a wrong length', { 'Content-Length': '7' }],
    ])('headers with %s as final, and sends nothing', async (_, headers) => {
      expect(await effectOf(run(http, { url: target.base, headers, body: 'x' }))).toBe('fails for good')
      expect(target.calls).toEqual([])
    })
  })

  describe('waits for Retry-After', () => {
    it.each([429, 503])('in seconds, after %i', async (status) => {
      target.answers(status, { 'Retry-After': '7' })
      expect(await effectOf(run(http, { url: target.base }))).toBe(7_000)
    })

    it('until a date, at most a day', async () => {
      target.answers(429, { 'Retry-After': 'Fri, 31 Dec 2100 23:59:59 GMT' })
      expect(await effectOf(run(http, { url: target.base }))).toBe(86_400_000)
    })

    it('not at all when the date has passed', async () => {
      target.answers(429, { 'Retry-After': 'Fri, 31 Dec 1999 23:59:59 GMT' })
      expect(await effectOf(run(http, { url: target.base }))).toBe(0)
    })

    it('unless it is invalid', async () => {
      target.answers(503, { 'Retry-After': 'soon' })
      expect(await effectOf(run(http, { url: target.base }))).toBe('is retried')
    })

    it('and to the second, for a date', () => {
      const now = Date.UTC(2030, 0, 1)
      expect(retryAfterMs('Tue, 01 Jan 2030 00:01:30 GMT', now)).toBe(90_000)
    })

    it.each([
      ['1.5', 1_500],
      ['.5', 500],
      [' 7 ', 7_000],
      ['0', 0],
      ['Tuesday, 01-Jan-30 00:01:30 GMT', 90_000],
      ['Tue Jan  1 00:01:30 2030', 90_000],
      ['2030-01-01T01:01:30+01:00', 90_000],
      ['Friday, 31-Dec-99 23:59:59 GMT', 0],
      ['Tue, 01 Jan 2030 00:01:30 CET', null],
      ['01/01/2030', null],
      ['1,5', null],
      ['-1', null],
      ['1e3', null],
    ])('%s, whatever the time zone of this machine', (header, ms) => {
      expect(retryAfterMs(header, Date.UTC(2030, 0, 1))).toBe(ms)
    })

    it('and logs how it interpreted the header', async () => {
      const lines: string[] = []
      const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) })
      for (const [header, note] of [
        ['7', /after Retry-After/],
        ['soon', /is not valid: the back-off/],
        ['1e9'.padEnd(3), /is not valid/],
        ['999999999', /more than a day/],
        ['Fri, 31 Dec 1999 23:59:59 GMT', /in the past/],
      ] as const) {
        target.answers(503, { 'Retry-After': header })
        await effectOf(run(http, { url: target.base }, { log }))
        expect(JSON.parse(lines.at(-1)!)).toMatchObject({ retry_after: header.trim(), msg: note })
      }
      expect(retryAfterNote(undefined, 0)).toBeNull()
    })

    it('for a day at most', () => {
      fc.assert(
        fc.property(fc.bigInt({ min: 86_400n, max: 10n ** 400n }), (seconds) => {
          expect(retryAfterMs(String(seconds), 0)).toBe(86_400_000)
        }),
      )
    })

    it('never for a negative time', () => {
      fc.assert(
        fc.property(fc.oneof(fc.string(), fc.date({ noInvalidDate: true }).map(String)), fc.nat(), (header, now) => {
          const ms = retryAfterMs(header, now)
          return ms === null || (ms >= 0 && ms <= 86_400_000)
        }),
      )
    })
  })

  it('waits for an answer as long as the task allows, without a time-out of its own', async () => {
    const asked = Promise.withResolvers<void>()
    const late = Promise.withResolvers<void>()
    target.answer = (_request, response) => {
      asked.resolve()
      void late.promise.then(() => {
        response.writeHead(200).write('first, ')
        setImmediate(() => {
          tick(400_000)
          response.end('then the rest')
        })
      })
    }
    const running = run(http, { url: target.base })
    await asked.promise
    // undici counts its time-outs by a clock of its own, which this moves.
    tick(400_000)
    late.resolve()
    expect(await running).toMatchObject({ status: 200, body: 'first, then the rest' })
  })

  describe('reads', () => {
    it.each([64 * KIB - 1, 64 * KIB])('a body of %i bytes whole', async (bytes) => {
      target.answers(200, {}, 'x'.repeat(bytes))
      expect((await run(http, { url: target.base })).body).toBe('x'.repeat(bytes))
    })

    it('the first 64 KiB of a longer body', async () => {
      target.answers(200, {}, `${'x'.repeat(64 * KIB)}yz`)
      expect((await run(http, { url: target.base })).body).toBe('x'.repeat(64 * KIB))
    })

    it('a bounded part of an endless body, and closes the connection', async () => {
      let closed: Promise<unknown> | undefined
      target.answer = (_request, response) => {
        closed = once(response, 'close')
        const fill = () => {
          while (response.writable && response.write('x'.repeat(KIB)));
        }
        response.on('drain', fill)
        fill()
      }
      expect((await run(http, { url: target.base })).body).toHaveLength(64 * KIB)
      await closed
    })

    it('a character that arrives in two chunks', async () => {
      const bytes = Buffer.from('naïve €')
      target.answer = (_request, response) => {
        response.write(bytes.subarray(0, -1), () => response.end(bytes.subarray(-1)))
      }
      expect((await run(http, { url: target.base })).body).toBe('naïve €')
    })
  })

  describe('stops when it is aborted', () => {
    it('before the call, and does not make it', async () => {
      await expect(run(http, { url: target.base }, { signal: AbortSignal.abort(new Error('stop')) })).rejects.toThrow(
        'stop',
      )
      expect(target.calls).toEqual([])
    })

    it('while it waits for the answer, and closes the connection', async () => {
      const controller = new AbortController()
      let closed: Promise<unknown> | undefined
      target.answer = (_request, response) => {
        closed = once(response, 'close')
        controller.abort(new Error('stop'))
      }
      await expect(run(http, { url: target.base }, { signal: controller.signal })).rejects.toThrow('stop')
      await closed
    })

    it.each([200, 302])('within the body of a %i', async (status) => {
      const controller = new AbortController()
      let closed: Promise<unknown> | undefined
      target.answer = (_request, response) => {
        closed = once(response, 'close')
        response.writeHead(status, status === 302 ? { Location: '/next' } : {})
        response.write('half', () => setImmediate(() => controller.abort(new Error('stop'))))
      }
      await expect(run(http, { url: target.base }, { signal: controller.signal })).rejects.toThrow('stop')
      await closed
      expect(target.calls).toHaveLength(1)
    })
  })

  describe('unless private addresses are allowed, does not call', () => {
    it.each(['127.0.0.1', '2130706433', '0x7f.1', '[::ffff:127.0.0.1]', 'localhost', 'LOCALHOST', 'localhost.'])(
      '%s',
      async (host) => {
        vi.stubEnv('XQUEUE_HTTP_ALLOW_PRIVATE', 'false')
        expect(await effectOf(run(http, { url: `http://${host}:${new URL(target.base).port}` }))).toBe('fails for good')
        expect(target.calls).toEqual([])
      },
    )
  })
})
