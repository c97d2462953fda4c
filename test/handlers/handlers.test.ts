import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http'
import { type AddressInfo, BlockList, isIPv4 } from 'node:net'
import { join } from 'node:path'
import fc from 'fast-check'
import { pino } from 'pino'
import { SMTPServer, type SMTPServerOptions } from 'smtp-server'
import { Webhook } from 'standardwebhooks'
// @ts-expect-error It has no types, and is there for tests.
import { tick } from 'undici/lib/util/timers.js'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { email } from '../../handlers/email.ts'
import { example } from '../../handlers/example.ts'
import { http } from '../../handlers/http.ts'
import { checkUrl, isPublicAddress, publicLookup } from '../../handlers/http-guard.ts'
import { retryAfterMs, retryAfterNote } from '../../handlers/retry-after.ts'
import { DoNotRetry, RetryAfter } from '../../src/task/retry.ts'
import { completeSpec, type Progress } from '../../src/task/task.ts'
import type { Handler, HandlerContext } from '../../src/worker/handler.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { snippetsOf } from '../fixtures/snippets.ts'

const ID = '01912345-6789-7abc-8def-0123456789ab'
const KIB = 1024

/** Runs a handler on a payload as a worker would, without the queue around it. */
async function run<Payload, Result>(
  handler: Handler<Payload, Result>,
  payload: Payload,
  more: Partial<HandlerContext> = {},
): Promise<Result> {
  const task = {
    ...completeSpec({ type: 'test' }),
    ...{ id: ID, payload, status: 'processing' as const, attempts: 0, deliveries: 1, timeoutReason: null },
    ...{ createdAt: 0, runAt: 0, startedAt: 0, updatedAt: 0, completedAt: null, workerId: 'w' },
    ...{ progress: null, result: null, error: null, tags: {}, idempotencyKey: null, after: [] },
  }
  const { signal } = new AbortController()
  const log = pino({ level: 'silent' })
  const predecessor = () => Promise.reject(new Error('there are none'))
  const none = { predecessors: [], predecessor, progress: () => undefined }
  return handler.run(task, { signal, attempt: 1, ...none, log, ...more })
}

/** What the worker makes of a run. */
async function fate(running: Promise<unknown>): Promise<'succeeds' | 'fails for good' | 'is retried' | number> {
  try {
    await running
    return 'succeeds'
  } catch (error) {
    if (error instanceof DoNotRetry) return 'fails for good'
    return error instanceof RetryAfter ? (error.delayMs ?? Number.NaN) : 'is retried'
  }
}

const portOf = (server: { address(): unknown }) => (server.address() as AddressInfo).port

/** A port that nobody listens on. */
async function closedPort(): Promise<number> {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const port = portOf(server)
  await new Promise((closed) => server.close(closed))
  return port
}

beforeEach(() => {
  for (const name of ['SMTP_URL', 'OUTBOX', 'HTTP_ALLOW_PRIVATE', 'HTTP_SECRET', 'HTTP_SECRETS']) {
    vi.stubEnv(`XQUEUE_${name}`, undefined)
  }
})
afterEach(() => vi.unstubAllEnvs())

describe('the guard of the http handler', () => {
  const REFUSED_V4 = [
    ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
    ...['192.0.2.0/24', '192.31.196.0/24', '192.52.193.0/24', '192.88.99.0/24', '192.168.0.0/16', '192.175.48.0/24'],
    ...['198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4', '255.255.255.255/32'],
  ]
  /** Everything outside 2000::/3, and what inside it is not for everybody. */
  const REFUSED_V6 = [
    ...['::/128', '::1/128', '::/3', '100::/64', '200::/7', '4000::/2', '8000::/1', 'fc00::/7', 'fe80::/10'],
    ...[
      'fec0::/10',
      'ff00::/8',
      '2001:2::/48',
      '2001:10::/28',
      '2001:20::/28',
      '2001:db8::/32',
      '3fff::/20',
      '5f00::/16',
    ],
  ]
  /** How an IPv6 address can carry an IPv4 one: the two halves of the latter stand for V4. */
  const CARRIERS = {
    'IPv4-mapped': '::ffff:V4',
    'IPv4-compatible': '::V4',
    'IPv4-translated': '::ffff:0:V4',
    '6to4': '2002:V4::1',
    NAT64: '64:ff9b::V4',
    'local NAT64': '64:ff9b:1::V4',
    Teredo: '2001:0:V4::1',
  }

  /** Any address of a range such as 10.0.0.0/8 or fe80::/10. */
  function within(range: string): fc.Arbitrary<string> {
    const [start = '', bits] = range.split('/')
    const v4 = isIPv4(start)
    const groups = v4 ? start.split('.') : start.slice(0, start.indexOf('::')).split(':')
    const [length, groupBits, base] = v4 ? [4, 8, 10] : [8, 16, 16]
    const free = (index: number) => {
      const fixed = Math.min(Math.max(Number(bits) - index * groupBits, 0), groupBits)
      const min = Number.parseInt(groups[index] || '0', base)
      return fc.integer({ min, max: min + 2 ** (groupBits - fixed) - 1 }).map((group) => group.toString(base))
    }
    return fc.tuple(...Array.from({ length }, (_, index) => free(index))).map((all) => all.join(v4 ? '.' : ':'))
  }

  const hex = (v4: string) => {
    const [a = 0, b = 0, c = 0, d = 0] = v4.split('.').map(Number)
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
  }

  it.each(REFUSED_V4)('refuses every address of %s', (range) => {
    fc.assert(fc.property(within(range), (address) => !isPublicAddress(address)))
  })

  it.each(REFUSED_V6)('refuses every address of %s', (range) => {
    fc.assert(fc.property(within(range), (address) => !isPublicAddress(address)))
  })

  it.each(Object.entries(CARRIERS))('refuses every private IPv4 address written as %s', (_, pattern) => {
    const privateAddress = fc.oneof(...REFUSED_V4.map(within))
    fc.assert(fc.property(privateAddress, (address) => !isPublicAddress(pattern.replace('V4', hex(address)))))
  })

  it('refuses a private IPv4 address in the obfuscated form of Teredo', () => {
    const inverted = (v4: string) =>
      hex(
        v4
          .split('.')
          .map((byte) => 255 - Number(byte))
          .join('.'),
      )
    const privateAddress = fc.oneof(...REFUSED_V4.map(within))
    fc.assert(fc.property(privateAddress, (v4) => !isPublicAddress(`2001:0:4136:e378:8000:63bf:${inverted(v4)}`)))
  })

  it('accepts every other IPv4 address, and no fewer', () => {
    const refused = new BlockList()
    for (const range of REFUSED_V4) {
      const [start = '', bits] = range.split('/')
      refused.addSubnet(start, Number(bits))
    }
    fc.assert(
      fc.property(within('0.0.0.0/0'), (address) => isPublicAddress(address) !== refused.check(address)),
      { numRuns: 2_000 },
    )
  })

  it.each([
    '1.1.1.1',
    '8.8.8.8',
    '93.184.216.34',
    '172.32.0.1',
    '100.128.0.1',
    '223.255.255.255',
    '2606:4700:4700::1111',
    '2a00:1450:4001:829::200e',
    '2001:4860:4860::8888',
    '::ffff:8.8.8.8',
  ])('accepts the public address %s', (address) => {
    expect(isPublicAddress(address)).toBe(true)
  })

  it('refuses whatever is no address', () => {
    expect(['', 'localhost', '8.8.8.8.8', '8.8.8.8/8', '::g', '[2606:4700:4700::1111]'].some(isPublicAddress)).toBe(
      false,
    )
    fc.assert(
      fc.property(
        fc.string().filter((text) => !/[\d:]/.test(text)),
        (text) => !isPublicAddress(text),
      ),
    )
  })

  it.each([
    'http://127.0.0.1',
    'http://127.0.0.1.',
    'http://2130706433',
    'http://0x7f000001',
    'http://017700000001',
    'http://0x7f.1',
    'http://0177.0.0.1',
    'http://127.1',
    'http://0',
    'http://%31%32%37.0.0.1',
    'http://１２７.０.０.１',
    'http://127。0。0。1',
    'http://public.example@127.0.0.1',
    'http://169.254.169.254/latest/meta-data',
    'http://168.63.129.16/machine?comp=goalstate',
    'http://[::ffff:168.63.129.16]',
    'http://[::1]',
    'http://[::]',
    'http://[0:0:0:0:0:0:0:1]',
    'http://[::ffff:127.0.0.1]',
    'http://[::ffff:7f00:1]',
    'http://[::127.0.0.1]',
    'http://[64:ff9b::10.0.0.1]',
    'http://[2002:7f00:1::]',
    'https://[fe80::1]',
    'https://[fd00::1]:8443',
  ])('refuses the URL %s', (url) => {
    expect(() => checkUrl(new URL(url), false)).toThrow(DoNotRetry)
    expect(() => checkUrl(new URL(url), false)).toThrow('http-allow-private')
    expect(() => checkUrl(new URL(url), true)).not.toThrow()
  })

  it.each([
    'ftp://example.com',
    'file:///etc/passwd',
    'data:,x',
    'ws://example.com',
    'javascript:1',
    'blob:http://example.com/1',
  ])('refuses the protocol of %s, also when private addresses are allowed', (url) => {
    expect(() => checkUrl(new URL(url), true)).toThrow(DoNotRetry)
    expect(() => checkUrl(new URL(url), false)).toThrow('must start with http:// or https://')
  })

  it.each(['http://example.com', 'https://8.8.8.8:444/x', 'HTTPS://[2606:4700:4700::1111]'])(
    'accepts the URL %s',
    (url) => {
      expect(() => checkUrl(new URL(url), false)).not.toThrow()
    },
  )

  const lookup = (name: string, all: boolean) =>
    new Promise((resolve, reject) => {
      publicLookup(name, { all }, (error, ...found) => (error ? reject(error) : resolve(found)))
    })

  it.each([true, false])('refuses a name that leads to a private address (all: %s)', async (all) => {
    await expect(lookup('localhost', all)).rejects.toThrow(/^localhost \((127\.|::1).* allow it with/)
    expect(await fate(lookup('localhost', all))).toBe('fails for good')
  })

  it('answers a look-up in the form that was asked for', async () => {
    expect(await lookup('8.8.8.8', false)).toEqual(['8.8.8.8', 4])
    expect(await lookup('8.8.8.8', true)).toEqual([[{ address: '8.8.8.8', family: 4 }]])
  })

  it('refuses a name without an address', async () => {
    expect(await fate(lookup('', true))).toBe('fails for good')
  })
})

describe('the http handler', () => {
  interface Call {
    method: string
    url: string
    headers: IncomingHttpHeaders
    body: string
  }
  let calls: Call[]
  let answer: RequestListener
  let servers: Server[]
  /** Two servers, hence two origins. */
  let base: string
  let other: string

  const listen = async () => {
    const server = createServer(async (request, response) => {
      let body = ''
      for await (const chunk of request) body += chunk
      calls.push({ method: request.method!, url: request.url!, headers: request.headers, body })
      answer(request, response)
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    return server
  }
  beforeAll(async () => {
    servers = await Promise.all([listen(), listen()])
    ;[base, other] = servers.map((server) => `http://127.0.0.1:${portOf(server)}`) as [string, string]
  })
  beforeEach(() => {
    vi.stubEnv('XQUEUE_HTTP_ALLOW_PRIVATE', 'true')
    calls = []
    answer = (_request, response) => response.end('fine')
  })
  afterAll(() => {
    for (const server of servers) {
      server.close()
      server.closeAllConnections()
    }
  })

  const answers = (status: number, headers: Record<string, string> = {}, body = 'because') => {
    answer = (_request, response) => response.writeHead(status, headers).end(body)
  }
  /** The first answer sends the caller elsewhere, the next ones are fine. */
  const redirects = (status: number, location: string) => {
    answer = (_request, response) => {
      if (calls.length === 1) response.writeHead(status, { Location: location })
      response.end('arrived')
    }
  }
  /** What a receiver computes from what it was sent. */
  const sign = ({ method, url, headers, body }: Call, secret: string) => {
    const text = [headers['x-xqueue-timestamp'], method, `http://${headers.host}${url}`, body].join('\n')
    return `v2=${createHmac('sha256', secret).update(text).digest('hex')}`
  }

  describe('calls', () => {
    it('a URL with GET, names itself and the task, and returns what was answered', async () => {
      answers(201, { 'Content-Type': 'text/plain' }, 'made')
      const result = await run(http, { url: `${base}/a?b=c` })
      expect(result).toEqual({ status: 201, url: `${base}/a?b=c`, content_type: 'text/plain', body: 'made' })
      expect(calls).toMatchObject([{ method: 'GET', url: '/a?b=c', body: '' }])
      expect(calls[0]!.headers).toMatchObject({ 'user-agent': 'XQueue', 'x-xqueue-task-id': ID })
    })

    it('succeeds with no body and no content type', async () => {
      answers(204, {}, '')
      expect(await run(http, { url: base })).toMatchObject({ status: 204, content_type: null, body: '' })
    })

    it('posts a string as it is', async () => {
      await run(http, { url: base, body: 'a=1' })
      expect(calls).toMatchObject([{ method: 'POST', body: 'a=1' }])
      expect(calls[0]!.headers['content-type']).toBeUndefined()
    })

    it.each([[{ grüße: [1, null] }], [[]], [0], [false], [null]])('posts %j as JSON', async (body) => {
      await run(http, { url: base, body })
      expect(calls).toMatchObject([{ method: 'POST', body: JSON.stringify(body) }])
      expect(calls[0]!.headers['content-type']).toBe('application/json')
    })

    it.each(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'] as const)('with the method %s', async (method) => {
      expect(await fate(run(http, { url: base, method }))).toBe('succeeds')
      expect(calls).toMatchObject([{ method }])
    })

    it('with the headers of the payload, in any case, in place of its own', async () => {
      await run(http, {
        url: base,
        body: {},
        headers: { 'User-Agent': 'me', 'CONTENT-TYPE': 'application/x', 'X-A': 'b' },
      })
      expect(calls[0]!.headers).toMatchObject({ 'user-agent': 'me', 'content-type': 'application/x', 'x-a': 'b' })
    })

    it('with the true id of the task, whatever the payload says', async () => {
      await run(http, { url: base, headers: { 'X-XQueue-Task-Id': 'forged' } })
      expect(calls[0]!.headers['x-xqueue-task-id']).toBe(ID)
    })
  })

  describe('judges', () => {
    it.each([408, 429, 500, 502, 503, 504, 599])('%i as worth a retry', async (status) => {
      answers(status)
      expect(await fate(run(http, { url: base }))).toBe('is retried')
    })

    it.each([304, 400, 401, 403, 404, 409, 410, 422, 499])('%i as final', async (status) => {
      answers(status)
      expect(await fate(run(http, { url: base }))).toBe('fails for good')
    })

    it('an error by its status and the start of its body, and does not tell the query', async () => {
      answers(500, {}, `broken${'!'.repeat(KIB)}`)
      const call = run(http, { url: `${base}/a?token=hush` })
      await expect(call).rejects.toThrow(new RegExp(`^${base}/a answered 500: broken!{494}$`))
    })

    it('a refused connection as worth a retry', async () => {
      expect(await fate(run(http, { url: `http://127.0.0.1:${await closedPort()}` }))).toBe('is retried')
    })

    it('a connection that breaks before the answer as worth a retry', async () => {
      answer = (request) => request.socket.destroy()
      expect(await fate(run(http, { url: base }))).toBe('is retried')
    })

    it('a connection that breaks within the answer as worth a retry', async () => {
      answer = (request, response) => {
        response.writeHead(200, { 'Content-Length': '100' })
        response.write('half', () => request.socket.destroy())
      }
      expect(await fate(run(http, { url: base }))).toBe('is retried')
    })

    it.each(['nowhere', 'http://', 'http://a b/', 'http://[::1', 'http://256.256.256.256'])(
      'the URL %j as final',
      async (url) => {
        expect(await fate(run(http, { url }))).toBe('fails for good')
      },
    )

    it.each([
      ['a bad name', { 'a b': 'c' }],
      ['a line break', { 'x-a': 'b\r\nX-Injected: c' }],
      ['a header that frames the message', { 'Transfer-Encoding': 'chunked' }],
      ['a length that is wrong', { 'Content-Length': '7' }],
    ])('headers with %s as final, and sends nothing', async (_, headers) => {
      expect(await fate(run(http, { url: base, headers, body: 'x' }))).toBe('fails for good')
      expect(calls).toEqual([])
    })
  })

  describe('waits as Retry-After says', () => {
    it.each([429, 503])('in seconds, after %i', async (status) => {
      answers(status, { 'Retry-After': '7' })
      expect(await fate(run(http, { url: base }))).toBe(7_000)
    })

    it('until a date, at most a day', async () => {
      answers(429, { 'Retry-After': 'Fri, 31 Dec 2100 23:59:59 GMT' })
      expect(await fate(run(http, { url: base }))).toBe(86_400_000)
    })

    it('not at all when the date has passed', async () => {
      answers(429, { 'Retry-After': 'Fri, 31 Dec 1999 23:59:59 GMT' })
      expect(await fate(run(http, { url: base }))).toBe(0)
    })

    it('unless it cannot be read', async () => {
      answers(503, { 'Retry-After': 'soon' })
      expect(await fate(run(http, { url: base }))).toBe('is retried')
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

    it('and says in the log what it made of it', async () => {
      const lines: string[] = []
      const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) })
      for (const [header, note] of [
        ['7', /after Retry-After/],
        ['soon', /is not valid: the back-off/],
        ['1e9'.padEnd(3), /is not valid/],
        ['999999999', /more than a day/],
        ['Fri, 31 Dec 1999 23:59:59 GMT', /in the past/],
      ] as const) {
        answers(503, { 'Retry-After': header })
        await fate(run(http, { url: base }, { log }))
        expect(JSON.parse(lines.at(-1)!)).toMatchObject({ retry_after: header.trim(), msg: note })
      }
      expect(retryAfterNote(undefined, 0)).toBeNull()
    })

    it('for a day at most, however many seconds it asks for', () => {
      fc.assert(
        fc.property(fc.bigInt({ min: 86_400n, max: 10n ** 400n }), (seconds) => {
          expect(retryAfterMs(String(seconds), 0)).toBe(86_400_000)
        }),
      )
    })

    it('never less than nothing, whatever the header holds', () => {
      fc.assert(
        fc.property(fc.oneof(fc.string(), fc.date({ noInvalidDate: true }).map(String)), fc.nat(), (header, now) => {
          const ms = retryAfterMs(header, now)
          return ms === null || (ms >= 0 && ms <= 86_400_000)
        }),
      )
    })
  })

  it('waits for an answer as long as the task allows, and no time-out of its own ends it', async () => {
    const asked = Promise.withResolvers<void>()
    const late = Promise.withResolvers<void>()
    answer = (_request, response) => {
      asked.resolve()
      void late.promise.then(() => {
        response.writeHead(200).write('first, ')
        setImmediate(() => {
          tick(400_000)
          response.end('then the rest')
        })
      })
    }
    const running = run(http, { url: base })
    await asked.promise
    // undici counts its time-outs by a clock of its own, which this moves.
    tick(400_000)
    late.resolve()
    expect(await running).toMatchObject({ status: 200, body: 'first, then the rest' })
  })

  describe('sends credentials of the URL', () => {
    const withUser = (user: string) => base.replace('//', `//${user}@`)
    const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`

    it.each([
      ['ann:secret', 'ann:secret'],
      ['ann', 'ann:'],
      ['gr%C3%BC%C3%9Fe:p%40ss%3A', 'grüße:p@ss:'],
    ])('%s as Basic authentication, and shows them nowhere', async (user, sent) => {
      const result = await run(http, { url: `${withUser(user)}/a` })
      expect(calls[0]!.headers.authorization).toBe(basic(sent))
      expect(result.url).toBe(`${base}/a`)
    })

    it('unless the headers bring their own', async () => {
      const headers = { Authorization: 'Bearer token' }
      const result = await run(http, { url: withUser('ann:secret'), headers })
      expect([calls[0]!.headers.authorization, result.url]).toEqual(['Bearer token', `${base}/`])
    })

    it('to no other origin', async () => {
      redirects(302, `${other}/b`)
      await run(http, { url: withUser('ann:secret') })
      expect(calls.map(({ headers }) => headers.authorization)).toEqual([basic('ann:secret'), undefined])
    })

    it('and refuses a user that it cannot carry', async () => {
      expect(await fate(run(http, { url: withUser('a%3Ab:c') }))).toBe('fails for good')
      expect(calls).toEqual([])
    })

    it.each([`not a url //ann:secret@host`, `http://ann:secret@[bad`])('and no error shows them: %s', async (url) => {
      await expect(run(http, { url })).rejects.toThrow(/^(?!.*secret)/s)
    })
  })

  describe('follows redirects', () => {
    const countdown: RequestListener = (request, response) => {
      const left = Number(request.url!.slice(1))
      if (left > 0) response.writeHead(302, { Location: `/${left - 1}` })
      response.end('arrived')
    }

    it('up to five, and returns the URL it arrived at', async () => {
      answer = countdown
      expect(await run(http, { url: `${base}/5` })).toMatchObject({ url: `${base}/0`, body: 'arrived' })
    })

    it('but not six', async () => {
      answer = countdown
      const call = run(http, { url: `${base}/6` })
      await expect(call).rejects.toThrow('redirected more than 5 times')
      expect(await fate(call)).toBe('fails for good')
      expect(calls.map(({ url }) => url)).toEqual(['/6', '/5', '/4', '/3', '/2', '/1'])
    })

    it.each([
      [301, 'POST', 'GET'],
      [302, 'POST', 'GET'],
      [303, 'POST', 'GET'],
      [303, 'PUT', 'GET'],
      [303, 'DELETE', 'GET'],
    ] as const)('%i of a %s with %s and without the body', async (status, method, next) => {
      redirects(status, '/next')
      await run(http, { url: base, method, body: { a: 1 }, headers: { 'content-language': 'en', 'x-a': 'b' } })
      expect(calls[1]).toMatchObject({ method: next, url: '/next', body: '', headers: { 'x-a': 'b' } })
      expect(Object.keys(calls[1]!.headers).filter((name) => /^content-(type|language)$/.test(name))).toEqual([])
    })

    it.each([
      [301, 'PUT'],
      [302, 'PATCH'],
      [307, 'POST'],
      [308, 'POST'],
      [308, 'DELETE'],
    ] as const)('%i of a %s with the same method and body', async (status, method) => {
      redirects(status, '/next')
      await run(http, { url: base, method, body: { a: 1 } })
      expect(calls[1]).toMatchObject({ method, url: '/next', body: '{"a":1}' })
      expect(calls[1]!.headers['content-type']).toBe('application/json')
    })

    it('of HEAD with HEAD', async () => {
      redirects(303, '/next')
      await run(http, { url: base, method: 'HEAD' })
      expect(calls).toMatchObject([{ method: 'HEAD' }, { method: 'HEAD', url: '/next' }])
    })

    const secrets = { Authorization: 'Bearer hush', COOKIE: 'a=hush', 'Proxy-Authorization': 'Basic hush' }

    it('with its secrets to the same origin', async () => {
      redirects(307, '/next')
      await run(http, { url: base, headers: secrets })
      expect(calls[1]!.headers).toMatchObject({ authorization: 'Bearer hush', cookie: 'a=hush' })
    })

    it('without its secrets to another origin', async () => {
      vi.stubEnv('XQUEUE_HTTP_SECRET', 's3cret')
      redirects(307, `${other}/next`)
      await run(http, { url: base, headers: { ...secrets, 'x-a': 'b' }, body: 'x' })
      expect(calls[1]).toMatchObject({ url: '/next', body: 'x', headers: { 'x-a': 'b' } })
      expect(JSON.stringify(calls[1])).not.toContain('hush')
      expect(calls[1]!.headers['x-xqueue-signature']).toBeUndefined()
    })

    it('and does not send the secrets again when a third hop comes back', async () => {
      answer = (request, response) => {
        const location = { '/1': `${other}/2`, '/2': `${base}/3` }[request.url!]
        response.writeHead(location ? 307 : 200, location ? { Location: location } : {}).end()
      }
      await run(http, { url: `${base}/1`, headers: secrets })
      expect(calls.map(({ url }) => url)).toEqual(['/1', '/2', '/3'])
      expect(JSON.stringify(calls.slice(1))).not.toContain('hush')
    })

    it('to another origin under that origin’s own host name', async () => {
      redirects(307, `${other}/next`)
      await run(http, { url: base })
      expect(calls.map(({ headers }) => headers.host)).toEqual([new URL(base).host, new URL(other).host])
    })

    it.each(['Host', 'Transfer-Encoding', 'Connection', 'content-length'])(
      'but not with a header %s of the submitter’s',
      async (name) => {
        await expect(run(http, { url: base, headers: { [name]: 'x' } })).rejects.toThrow(
          `headers.${name.toLowerCase()} cannot be set by a task`,
        )
        expect(calls).toEqual([])
      },
    )

    it('with a signature that fits the body that is sent', async () => {
      vi.stubEnv('XQUEUE_HTTP_SECRET', 's3cret')
      redirects(303, '/next')
      await run(http, { url: base, body: 'x' })
      expect(calls.map(({ body }) => body)).toEqual(['x', ''])
      expect(calls.map(({ headers }) => headers['x-xqueue-signature'])).toEqual(
        calls.map((call) => sign(call, 's3cret')),
      )
    })

    it.each(['ftp://example.com/', 'file:///etc/passwd'])('but not to %s', async (location) => {
      redirects(302, location)
      expect(await fate(run(http, { url: base }))).toBe('fails for good')
    })

    it('but not to what is no URL', async () => {
      redirects(302, 'http://[')
      expect(await fate(run(http, { url: base }))).toBe('fails for good')
    })

    it('only with a place to go to', async () => {
      answers(302)
      expect(await fate(run(http, { url: base }))).toBe('fails for good')
    })

    it('past a body that never ends', async () => {
      answer = (_request, response) => {
        if (calls.length > 1) return response.end('arrived')
        response.writeHead(302, { Location: '/next' })
        const fill = () => {
          while (response.writable && response.write('x'.repeat(KIB)));
        }
        return response.on('drain', fill) && fill()
      }
      expect(await run(http, { url: base })).toMatchObject({ body: 'arrived' })
    })
  })

  describe('reads', () => {
    it.each([64 * KIB - 1, 64 * KIB])('a body of %i bytes whole', async (bytes) => {
      answers(200, {}, 'x'.repeat(bytes))
      expect((await run(http, { url: base })).body).toBe('x'.repeat(bytes))
    })

    it('the first 64 KiB of a longer body', async () => {
      answers(200, {}, `${'x'.repeat(64 * KIB)}yz`)
      expect((await run(http, { url: base })).body).toBe('x'.repeat(64 * KIB))
    })

    it('no more of a body that never ends, and hangs up', async () => {
      let closed: Promise<unknown> | undefined
      answer = (_request, response) => {
        closed = once(response, 'close')
        const fill = () => {
          while (response.writable && response.write('x'.repeat(KIB)));
        }
        response.on('drain', fill)
        fill()
      }
      expect((await run(http, { url: base })).body).toHaveLength(64 * KIB)
      await closed
    })

    it('a character that comes in two pieces as one', async () => {
      const bytes = Buffer.from('naïve €')
      answer = (_request, response) => {
        response.write(bytes.subarray(0, -1), () => response.end(bytes.subarray(-1)))
      }
      expect((await run(http, { url: base })).body).toBe('naïve €')
    })
  })

  describe('stops when it is aborted', () => {
    it('before the call, which is then not made', async () => {
      await expect(run(http, { url: base }, { signal: AbortSignal.abort(new Error('stop')) })).rejects.toThrow('stop')
      expect(calls).toEqual([])
    })

    it('while it waits for the answer, and hangs up', async () => {
      const controller = new AbortController()
      let closed: Promise<unknown> | undefined
      answer = (_request, response) => {
        closed = once(response, 'close')
        controller.abort(new Error('stop'))
      }
      await expect(run(http, { url: base }, { signal: controller.signal })).rejects.toThrow('stop')
      await closed
    })

    it.each([200, 302])('within the body of a %i', async (status) => {
      const controller = new AbortController()
      let closed: Promise<unknown> | undefined
      answer = (_request, response) => {
        closed = once(response, 'close')
        response.writeHead(status, status === 302 ? { Location: '/next' } : {})
        response.write('half', () => setImmediate(() => controller.abort(new Error('stop'))))
      }
      await expect(run(http, { url: base }, { signal: controller.signal })).rejects.toThrow('stop')
      await closed
      expect(calls).toHaveLength(1)
    })
  })

  describe('signs', () => {
    it.each([['text'], [{ a: 'ü' }], [undefined]])('the body %j together with the time', async (body) => {
      vi.stubEnv('XQUEUE_HTTP_SECRET', 's3cret')
      await run(http, { url: base, ...(body === undefined ? {} : { body }) })
      const [call] = calls
      expect(call!.headers['x-xqueue-timestamp']).toMatch(/^\d{10,}$/)
      expect(call!.headers['x-xqueue-signature']).toBe(sign(call!, 's3cret'))
    })

    it('over any signature that the payload brings', async () => {
      vi.stubEnv('XQUEUE_HTTP_SECRET', 's3cret')
      await run(http, { url: base, headers: { 'X-XQueue-Signature': 'forged', 'X-XQueue-Timestamp': '1' } })
      expect(calls[0]!.headers['x-xqueue-timestamp']).not.toBe('1')
      expect(calls[0]!.headers['x-xqueue-signature']).toBe(sign(calls[0]!, 's3cret'))
    })

    it('method and URL: neither fits another one', async () => {
      vi.stubEnv('XQUEUE_HTTP_SECRET', 's3cret')
      await run(http, { url: `${base}/a?b=c`, method: 'PUT', body: 'x' })
      const [call] = calls
      const { 'x-xqueue-signature': signature } = call!.headers
      expect(signature).toBe(sign(call!, 's3cret'))
      for (const other of [{ method: 'POST' }, { url: '/a' }, { url: '/a?b=c.' }, { body: 'y' }]) {
        expect(sign({ ...call!, ...other }, 's3cret')).not.toBe(signature)
      }
    })

    it.each(['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'a secret of our own'])(
      'as Standard Webhooks does, so that its library accepts it: %s',
      async (secret) => {
        vi.stubEnv('XQUEUE_HTTP_SECRET', secret)
        await run(http, { url: base, body: { a: 'ü' }, headers: { 'Webhook-Signature': 'v1,forged' } })
        const { headers, body } = calls[0]!
        const receiver = new Webhook(secret, secret.startsWith('whsec_') ? {} : { format: 'raw' })
        expect(receiver.verify(body, headers as Record<string, string>)).toEqual({ a: 'ü' })
        expect(headers['webhook-id']).toBe(ID)
        expect(() => receiver.verify(`${body} `, headers as Record<string, string>)).toThrow()
      },
    )

    it('so that the receiver in docs/security.md accepts it, and nothing else', async () => {
      const { code } = snippetsOf('docs/security.md').find(({ code }) => code.includes('isFromXQueue'))!
      const { isFromXQueue } = await import(`data:text/javascript,${encodeURIComponent(code)}`)
      vi.stubEnv('XQUEUE_HTTP_SECRET', 's3cret')
      await run(http, { url: `${base}/a?b=c`, body: { a: 'ü' } })
      const { method, url, headers, body } = calls[0]!
      const full = `http://${headers.host}${url}`
      expect(isFromXQueue('s3cret', method, full, headers, body)).toBe(true)
      expect(isFromXQueue('another', method, full, headers, body)).toBe(false)
      expect(isFromXQueue('s3cret', 'PUT', full, headers, body)).toBe(false)
      expect(isFromXQueue('s3cret', method, `${full}&d=e`, headers, body)).toBe(false)
      expect(isFromXQueue('s3cret', method, full, { ...headers, 'x-xqueue-timestamp': '1' }, body)).toBe(false)
      expect(isFromXQueue('s3cret', method, full, {}, body)).toBe(false)
    })

    it('with the secret of the destination, where it has one of its own', async () => {
      vi.stubEnv('XQUEUE_HTTP_SECRET', 'for all others')
      vi.stubEnv('XQUEUE_HTTP_SECRETS', `${base}=of-this-one\nhttps://other.example=of-another`)
      await run(http, { url: `${base}/x` })
      await run(http, { url: other })
      expect(calls.map(({ headers }) => headers['x-xqueue-signature'])).toEqual([
        sign(calls[0]!, 'of-this-one'),
        sign(calls[1]!, 'for all others'),
      ])
    })

    it('nothing without a secret', async () => {
      await run(http, { url: base, body: 'x' })
      expect(Object.keys(calls[0]!.headers).filter((name) => /signature|timestamp/.test(name))).toEqual([])
    })
  })

  describe('unless private addresses are allowed, does not call', () => {
    it.each(['127.0.0.1', '2130706433', '0x7f.1', '[::ffff:127.0.0.1]', 'localhost', 'LOCALHOST', 'localhost.'])(
      '%s',
      async (host) => {
        vi.stubEnv('XQUEUE_HTTP_ALLOW_PRIVATE', 'false')
        expect(await fate(run(http, { url: `http://${host}:${new URL(base).port}` }))).toBe('fails for good')
        expect(calls).toEqual([])
      },
    )
  })
})

describe('the email handler', () => {
  const message = { to: 'ann@example.com', from: 'Bob <bob@example.com>', subject: 'Hello', text: 'It works.' }
  let folder: string
  let smtp: SMTPServer | undefined

  beforeEach(() => {
    folder = temporaryFolder()
    vi.stubEnv('XQUEUE_OUTBOX', join(folder, 'outbox'))
  })
  afterEach(async () => {
    const server = smtp
    smtp = undefined
    if (server) await new Promise<void>((closed) => server.close(closed))
  })

  describe('with an SMTP server', () => {
    let mails: { from: string; to: string[]; text: string }[]

    async function serve(options: SMTPServerOptions = {}, login = ''): Promise<void> {
      mails = []
      smtp = new SMTPServer({
        authOptional: true,
        disabledCommands: ['STARTTLS'],
        closeTimeout: 0,
        async onData(stream, { envelope }, done) {
          let text = ''
          for await (const chunk of stream) text += chunk
          const from = envelope.mailFrom ? envelope.mailFrom.address : ''
          mails.push({ from, to: envelope.rcptTo.map(({ address }) => address), text })
          done()
        },
        ...options,
      })
      smtp.on('error', () => undefined) // A client that hangs up in the middle is part of the tests.
      await once(smtp.listen(0, '127.0.0.1'), 'listening')
      vi.stubEnv('XQUEUE_SMTP_URL', `smtp://${login}127.0.0.1:${portOf(smtp.server)}`)
    }
    const reply = (responseCode: number) => Object.assign(new Error('no'), { responseCode })

    it('delivers, and returns what the server said', async () => {
      await serve()
      const result = await run(email, message)
      expect(result).toEqual({ sent: true, message_id: `<${ID}@xqueue>`, response: expect.stringMatching(/^250 /) })
      expect(mails).toMatchObject([{ from: 'bob@example.com', to: ['ann@example.com'] }])
      expect(mails[0]!.text).toContain(`Message-ID: <${ID}@xqueue>\r\n`)
      expect(mails[0]!.text).toContain('\r\n\r\nIt works.')
    })

    it('delivers to everybody, and shows the blind copies to nobody', async () => {
      await serve()
      await run(email, { ...message, to: 'a@x.y, b@x.y', cc: 'C <c@x.y>', bcc: 'd@x.y', reply_to: 'e@x.y' })
      expect(mails[0]!.to).toEqual(['a@x.y', 'b@x.y', 'c@x.y', 'd@x.y'])
      expect(mails[0]!.text).toContain('Reply-To: e@x.y\r\n')
      expect(mails[0]!.text).not.toContain('d@x.y')
    })

    it('fails for good when the recipient is refused with 550', async () => {
      await serve({ onRcptTo: (_address, _session, done) => done(reply(550)) })
      await expect(run(email, message)).rejects.toThrow(/550/)
      expect(await fate(run(email, message))).toBe('fails for good')
    })

    it('is retried when the recipient is put off with 451', async () => {
      await serve({ onRcptTo: (_address, _session, done) => done(reply(451)) })
      await expect(run(email, message)).rejects.toThrow(/451/)
      expect(await fate(run(email, message))).toBe('is retried')
    })

    it('is retried when one recipient is refused and the other put off', async () => {
      await serve({ onRcptTo: ({ address }, _session, done) => done(reply(address === 'a@x.y' ? 451 : 550)) })
      expect(await fate(run(email, { ...message, to: 'a@x.y, b@x.y' }))).toBe('is retried')
    })

    it.each([
      [554, 'fails for good'],
      [452, 'is retried'],
    ])('and %i for the message itself: %s', async (code, expected) => {
      await serve({
        onData: (stream, _session, done) => {
          stream.resume().on('end', () => done(reply(code)))
        },
      })
      expect(await fate(run(email, message))).toBe(expected)
    })

    it('fails for good when its password is refused', async () => {
      const onAuth: SMTPServerOptions['onAuth'] = (_auth, _session, done) => done(reply(535))
      await serve({ onAuth, allowInsecureAuth: true }, 'bob:wrong@')
      await expect(run(email, message)).rejects.toThrow(DoNotRetry)
    })

    it('is retried when the connection is refused', async () => {
      vi.stubEnv('XQUEUE_SMTP_URL', `smtp://127.0.0.1:${await closedPort()}`)
      expect(await fate(run(email, message))).toBe('is retried')
    })

    it('is retried when the server is too busy to greet', async () => {
      await serve({ onConnect: (_session, done) => done(reply(421)) })
      expect(await fate(run(email, message))).toBe('is retried')
    })

    it('stops when it is aborted, and hangs up', async () => {
      const controller = new AbortController()
      const closed = Promise.withResolvers<void>()
      await serve({
        onRcptTo: () => controller.abort(new Error('stop')), // and never answers
        onClose: () => closed.resolve(),
      })
      expect(await fate(run(email, message, { signal: controller.signal }))).toBe('is retried')
      await closed.promise
      expect(mails).toEqual([])
    })

    it('sends nothing when it was aborted before', async () => {
      await serve()
      expect(await fate(run(email, message, { signal: AbortSignal.abort() }))).toBe('is retried')
      expect(mails).toEqual([])
    })
  })

  describe('without an SMTP server', () => {
    const outbox = async (payload: Parameters<typeof email.run>[0]['payload']) => {
      const { file } = await run(email, payload)
      return readFileSync(file!, 'utf8')
    }
    /** Name and value of each header, long ones unfolded (RFC 5322, 2.2.3). */
    const headersOf = (mail: string) => {
      const lines = mail
        .slice(0, mail.indexOf('\r\n\r\n'))
        .replaceAll(/\r\n(?=[ \t])/g, '')
        .split('\r\n')
      return new Map(
        lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trimStart()]),
      )
    }

    it('writes the message into the outbox under the task’s id, and says that it was not sent', async () => {
      const file = join(folder, 'outbox', `${ID}.eml`)
      expect(await run(email, message)).toEqual({ sent: false, message_id: `<${ID}@xqueue>`, file })
      expect(readdirSync(join(folder, 'outbox'))).toEqual([`${ID}.eml`])
    })

    it('writes a complete message', async () => {
      const mail = await outbox({ ...message, cc: 'c@x.y', bcc: 'd@x.y', reply_to: 'e@x.y' })
      const headers = headersOf(mail)
      expect(Object.fromEntries(headers)).toMatchObject({
        From: 'Bob <bob@example.com>',
        To: 'ann@example.com',
        Cc: 'c@x.y',
        Bcc: 'd@x.y',
        'Reply-To': 'e@x.y',
        Subject: 'Hello',
        'Message-ID': `<${ID}@xqueue>`,
        'MIME-Version': '1.0',
      })
      expect(headers.get('Date')).toMatch(/^\w{3}, \d\d? \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}$/)
      expect(mail.slice(mail.indexOf('\r\n\r\n') + 4)).toBe('It works.\r\n')
    })

    it('names a sender when the task does not', async () => {
      const { from: _, ...rest } = message
      expect(headersOf(await outbox(rest)).get('From')).toBe('XQueue <xqueue@localhost>')
    })

    it('sends text and HTML as alternatives', async () => {
      const mail = await outbox({ ...message, html: '<b>It works.</b>' })
      expect(headersOf(mail).get('Content-Type')).toMatch(/^multipart\/alternative;/)
      expect(mail).toContain('<b>It works.</b>')
    })

    it('replaces the message of an earlier attempt', async () => {
      await outbox(message)
      expect(await outbox({ ...message, text: 'Again.' })).toMatch(/\r\n\r\nAgain\.\r\n$/)
      expect(readdirSync(join(folder, 'outbox'))).toHaveLength(1)
    })

    it.each(['a\nb', 'a\r\nb', 'a\rb', 'a\n\r\n\rb\n', 'grüße\rü\n'])(
      'ends each line of %j with CRLF',
      async (text) => {
        const mail = await outbox({ ...message, text, html: text })
        expect(mail.replaceAll('\r\n', '')).not.toMatch(/[\r\n]/)
        expect(mail).toMatch(/\r\n$/)
      },
    )

    it('writes lines that any server takes, whatever the text', async () => {
      const text = fc.string({ unit: 'grapheme', maxLength: 3_000 })
      await fc.assert(
        fc.asyncProperty(text, text, async (body, subject) => {
          const mail = await outbox({ ...message, text: body, subject })
          // biome-ignore lint/suspicious/noControlCharactersInRegex: RFC 5322, 2.1: US-ASCII, lines of at most 998
          expect(mail).toMatch(/^[\x00-\x7f]*$/)
          expect(Math.max(...mail.split('\r\n').map((line) => line.length))).toBeLessThanOrEqual(998)
        }),
        { numRuns: 50 },
      )
    })

    it('lets no line break in a subject add a header', async () => {
      const mail = await outbox({ ...message, subject: 'a\r\nBcc: x@y.z\r\n\r\nbody' })
      expect([...headersOf(mail).keys()]).not.toContain('Bcc')
      expect(headersOf(mail).get('Subject')).toBe('a Bcc: x@y.z  body')
    })

    it('folds no header at a space that is no blank', async () => {
      const evil = 'Bcc: x@y.z\r\nX-Evil: 1'
      const mail = await outbox({ ...message, reply_to: `#   #"#  \r\n${evil} <a@b.c        #\u2028${evil}>` })
      expect(mail).toContain('Bcc: x')
      expect(mail).not.toMatch(/\n[^\S \r\n]/)
    })

    it('lets no field add a header', async () => {
      const plain = [...headersOf(await outbox({ ...message, cc: 'c@x.y', reply_to: 'e@x.y' })).keys()]
      const breaks = fc.constantFrom('\r\n', '\n', '\r', '\r\n\r\n', '\u2028', '\u0085', '\0', '\v', '>', '"', ',', ';')
      const attack = fc.tuple(fc.string(), breaks, breaks).map(([text, a, b]) => `${text}${a}Bcc: x@y.z${b}X-Evil: 1`)
      await fc.assert(
        fc.asyncProperty(attack, attack, attack, async (name, domain, subject) => {
          const address = `${name} <a@b.c${domain}>`
          const mail = await outbox({ ...message, to: address, from: address, cc: address, reply_to: address, subject })
          expect(plain).toEqual(
            expect.arrayContaining([...headersOf(mail).keys()].filter((key) => !/^Content/.test(key))),
          )
        }),
      )
    })
  })
})

describe('the example handler', () => {
  it('tells how far it is every 100 ms, up to 100', async () => {
    const seen: Progress[] = []
    const result = await run(example, { duration: 0.25 }, { progress: (value) => seen.push(value) })
    expect(result).toEqual({ slept: 0.25 })
    expect(seen).toEqual([40, 80, 100])
  })

  it('ends at once, and tells nothing, when there is nothing to sleep', async () => {
    const seen: Progress[] = []
    expect(await run(example, { duration: 0 }, { progress: (value) => seen.push(value) })).toEqual({ slept: 0 })
    expect(seen).toEqual([])
  })

  it('stops between two steps when it is aborted', async () => {
    const controller = new AbortController()
    const seen: Progress[] = []
    const progress = (value: Progress) => {
      seen.push(value)
      controller.abort()
    }
    await expect(run(example, { duration: 10 }, { signal: controller.signal, progress })).rejects.toThrow('abort')
    expect(seen).toEqual([1])
  })

  it('wakes from its sleep when it is aborted', async () => {
    const controller = new AbortController()
    const running = run(example, { duration: 3_600 }, { signal: controller.signal })
    controller.abort()
    await expect(running).rejects.toThrow('abort')
  })
})
