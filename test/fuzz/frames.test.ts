import type { Socket } from 'node:net'
import fc from 'fast-check'
import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { type Program, startProgram } from '../fixtures/program.ts'
import { SEED } from './random-input.ts'
import { ask, closeOf, exchange, frame, lengthOf, open, packets, statusesOf, upgrade } from './raw-socket.ts'

/** Simultaneous inputs: enough to keep the server busy, few enough for its machine. */
const CONNECTIONS = 24
const DRAWN = 1_500
const GROWTH_MB_MAX = 96

let program: Program
let client: MqttClient
let slow: Socket[]
const received = new Map<string, string[]>()
const submitted: string[] = []
let inputs = 0

beforeAll(async () => {
  program = await startProgram({ guarded: true })
  client = await mqtt.connectAsync(`mqtt://127.0.0.1:${program.mqttPort}`, { username: 'key', password: program.token })
  client.on('message', (topic, payload) => {
    const id = topic.split('/').at(-1)!
    received.set(id, [...(received.get(id) ?? []), JSON.parse(String(payload)).status])
  })
  await client.subscribeAsync('xqueue/events/#', { qos: 1 })
  // During all tests there are clients that do not finish their headers.
  slow = await Promise.all(Array.from({ length: 50 }, () => open(program.port)))
  for (const socket of slow) socket.write('GET /api/v1/live HTTP/1.1\r\nHost: localh')
})
afterAll(async () => {
  console.log(`${inputs} malformed requests, frames and packets, FUZZ_SEED=${SEED}`)
  await client.endAsync()
})

/** The server survives all inputs: a correct client receives answers and events. */
afterEach(async () => {
  expect([program.hasEnded, program.faults]).toEqual([false, []])
  const { status, body } = await program.call('POST', '/tasks', { type: 'echo', payload: { at: submitted.length } })
  expect(status).toBe(201)
  submitted.push(body.id)
  const ofAll = () => submitted.map((id) => received.get(id))
  await vi.waitFor(() => expect(ofAll()).toEqual(submitted.map(() => ['pending', 'processing', 'success'])), 20_000)
})

/** Some at a time. */
async function each<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const waiting = [...items]
  const next = async () => {
    for (let item = waiting.pop(); item !== undefined; item = waiting.pop()) {
      inputs++
      await work(item)
    }
  }
  await Promise.all(Array.from({ length: CONNECTIONS }, next))
}

/** A text with bytes changed, inserted, removed, repeated and truncated. */
function mutated(originals: readonly Buffer[], count: number): Buffer[] {
  const change = fc.record({
    kind: fc.constantFrom('set', 'flip', 'insert', 'remove', 'repeat', 'cut'),
    at: fc.nat(),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 6 }),
  })
  const arbitrary = fc.tuple(
    fc.array(fc.constantFrom(...originals), { minLength: 1, maxLength: 4 }),
    fc.array(change, { minLength: 1, maxLength: 6 }),
  )
  return fc.sample(arbitrary, { seed: SEED, numRuns: count }).map(([some, changes]) => {
    let text = Buffer.concat(some)
    for (const { kind, at, bytes } of changes) {
      const place = at % Math.max(text.length, 1)
      const [before, after] = [text.subarray(0, place), text.subarray(place)]
      if (kind === 'set') text = Buffer.concat([before, bytes, after.subarray(bytes.length)])
      if (kind === 'flip')
        text = Buffer.concat([before, Buffer.from([(after[0] ?? 0) ^ (1 << (bytes[0]! % 8))]), after.subarray(1)])
      if (kind === 'insert') text = Buffer.concat([before, bytes, after])
      if (kind === 'remove') text = Buffer.concat([before, after.subarray(bytes.length)])
      if (kind === 'repeat') text = Buffer.concat([before, after, after])
      if (kind === 'cut') text = before
      text = text.subarray(0, 20_000)
    }
    return text
  })
}

const request = (line: string, headers: string[], body = '') =>
  `${line} HTTP/1.1\r\n${['Host: localhost', ...headers].join('\r\n')}\r\n\r\n${body}`
const submit = (headers: string[], body: string) =>
  request(
    'POST /api/v1/tasks',
    ['Content-Type: application/json', `Authorization: Bearer ${program.token}`, ...headers],
    body,
  )
const JSON_TASK = '{"type":"remote"}'
const hidden = () => request('GET /api/v1/stats', [`Authorization: Bearer ${program.token}`])

describe('HTTP', () => {
  const SMUGGLING: [string, string[], (hidden: string) => string][] = [
    ['a length and chunks', ['Content-Length: 4', 'Transfer-Encoding: chunked'], (more) => `0\r\n\r\n${more}`],
    ['chunks and a length', ['Transfer-Encoding: chunked', 'Content-Length: 4'], (more) => `0\r\n\r\n${more}`],
    ['two lengths', ['Content-Length: 0', 'Content-Length: 60'], (more) => more],
    ['a list of lengths', ['Content-Length: 0, 60'], (more) => more],
    ['a length with a sign', ['Content-Length: +0'], (more) => more],
    ['a negative length', ['Content-Length: -1'], (more) => more],
    ['a length in hexadecimal', ['Content-Length: 0x0'], (more) => more],
    ['a length beyond the range of numbers', ['Content-Length: 99999999999999999999999'], (more) => more],
    ['chunks that are not the last coding', ['Transfer-Encoding: chunked, identity'], (more) => `0\r\n\r\n${more}`],
    ['an unknown coding', ['Transfer-Encoding: xchunked'], (more) => `0\r\n\r\n${more}`],
    ['chunks twice', ['Transfer-Encoding: chunked', 'Transfer-Encoding: cow'], (more) => `0\r\n\r\n${more}`],
    ['a space before the colon', ['Transfer-Encoding : chunked'], (more) => `0\r\n\r\n${more}`],
    ['a folded header', ['Transfer-Encoding:', ' chunked'], (more) => `0\r\n\r\n${more}`],
    ['a header that ends in a bare CR', ['X: y\rTransfer-Encoding: chunked'], (more) => `0\r\n\r\n${more}`],
    ['a NUL in a header', ['X: y\0z'], (more) => more],
    ['a chunk longer than its size', ['Transfer-Encoding: chunked'], (more) => `2\r\n{}x\r\n0\r\n\r\n${more}`],
    ['an invalid chunk size', ['Transfer-Encoding: chunked'], (more) => `zz\r\n{}\r\n0\r\n\r\n${more}`],
    [
      'a chunk size beyond the range of numbers',
      ['Transfer-Encoding: chunked'],
      (more) => `fffffffffffffffff\r\n{}\r\n${more}`,
    ],
    ['a chunk that ends in a bare LF', ['Transfer-Encoding: chunked'], (more) => `2\n{}\n0\n\n${more}`],
    ['a negative chunk size', ['Transfer-Encoding: chunked'], (more) => `-1\r\n{}\r\n0\r\n\r\n${more}`],
    [
      'a megabyte of chunk extensions',
      ['Transfer-Encoding: chunked'],
      (more) => `2;${'x'.repeat(2 ** 20)}\r\n{}\r\n${more}`,
    ],
  ]

  it.each(SMUGGLING)('with %s cannot smuggle a second request', async (_, headers, body) => {
    inputs++
    const answer = await ask(program.port, submit(headers, body(hidden())))
    const statuses = statusesOf(answer)
    // No status if the connection was closed while a megabyte was still being sent.
    expect([statuses.length <= 1, answer.includes('pending_tasks')]).toEqual([true, false])
    expect(statuses[0] ?? 400).toBeGreaterThanOrEqual(400)
  })

  it('with two pipelined requests answers both', async () => {
    const first = submit([`Content-Length: ${JSON_TASK.length}`], JSON_TASK)
    expect(statusesOf(await ask(program.port, first + hidden()))).toEqual([201, 200, 200])
    // A fault of the second request does not answer the first, which may have been accepted.
    const broken = await ask(program.port, `${first}GET / HTTP/1.1\r\nbroken\r\n\r\n`)
    expect(statusesOf(broken).filter((status) => status !== 201)).toEqual([])
  })

  it('with an unusual form is refused or answered', async () => {
    const forms = [
      ...[
        '',
        '\r\n\r\n',
        'GET',
        'GET /\r\n\r\n',
        'GET / HTTP/9.9\r\n\r\n',
        'GET  /  HTTP/1.1\r\n\r\n',
        '\0'.repeat(1_000),
      ],
      ...[
        'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
        'CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n',
        'FROB / HTTP/1.1\r\nHost: a\r\n\r\n',
      ],
      ...['GET http://other/api/v1/live HTTP/1.1\r\nHost: a\r\n\r\n', 'GET /api/v1/live HTTP/1.0\r\n\r\n'],
      ...['GET /api/v1/live HTTP/1.1\r\n\r\n', 'GET /api/v1/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n'],
      request('GET /%', []),
      request('GET /%ff%00', []),
      request('GET /api/v1/tasks/%c0%ae%c0%ae', [`Authorization: Bearer ${program.token}`]),
      request('GET /../../etc/passwd', []),
      request(`GET /${'a'.repeat(60_000)}`, []),
      request('GET /api/v1/live', [`X: ${'y'.repeat(60_000)}`]),
      request(
        'GET /api/v1/live',
        Array.from({ length: 5_000 }, (_, at) => `X${at}: y`),
      ),
      request('GET /api/v1/live', ['Expect: the-unexpected']),
      request('GET /api/v1/live', ['Upgrade: h2c', 'Connection: Upgrade']),
      request('GET /api/v1/live', ['Connection: close, keep-alive, x']),
      submit(['Expect: 100-continue', 'Content-Length: 17'], JSON_TASK),
      submit(['Content-Encoding: gzip', 'Content-Length: 17'], JSON_TASK),
      submit(['Content-Length: 1000000'], JSON_TASK),
      submit(['Transfer-Encoding: chunked', 'Trailer: Host'], `11\r\n${JSON_TASK}\r\n0\r\nHost: evil\r\nX: y\r\n\r\n`),
    ]
    await each(forms, async (form) => {
      const statuses = statusesOf(await ask(program.port, form))
      expect(
        statuses.every((status) => status < 500),
        form.slice(0, 100),
      ).toBe(true)
    })
  })

  it('with bytes changed anywhere is refused or answered, and causes no internal error', {
    timeout: 120_000,
  }, async () => {
    const chunked = submit(['Transfer-Encoding: chunked'], `8\r\n{"type":\r\n9\r\n"remote"}\r\n0\r\n\r\n`)
    const whole = submit([`Content-Length: ${JSON_TASK.length}`], JSON_TASK)
    const originals = [whole, chunked, hidden(), request('OPTIONS /docs', []), upgrade(program.token)].map((text) =>
      Buffer.from(text),
    )
    await each(mutated(originals, DRAWN), async (text) => {
      const answer = await ask(program.port, text)
      expect(
        statusesOf(answer).filter((status) => status >= 500),
        JSON.stringify(String(text)),
      ).toEqual([])
    })
  })
})

describe('WebSocket', () => {
  const opened = (frames: readonly Buffer[]) => exchange(program.port, [upgrade(program.token), ...frames])

  it('opens only for a valid request', async () => {
    const wrong = [
      { 'Sec-WebSocket-Version': '12' },
      { 'Sec-WebSocket-Key': 'short' },
      { Upgrade: 'other' },
      { 'Sec-WebSocket-Protocol': ',,' },
    ]
    for (const headers of [...wrong, { Origin: 'http://evil.example' }]) {
      inputs++
      const [status] = statusesOf(await exchange(program.port, [upgrade(program.token, headers)]))
      expect(status, JSON.stringify(headers)).toBeGreaterThanOrEqual(400)
    }
  })

  it('closes after an invalid frame', async () => {
    const { connect, subscribe } = packets(program.token) as { connect: Buffer; subscribe: Buffer }
    const forms: Buffer[][] = [
      [frame(2, connect, { masked: false })],
      ...[1, 2, 4, 7].map((rsv) => [frame(2, connect, { rsv })]),
      ...[3, 4, 5, 6, 7, 11, 12, 15].map((opcode) => [frame(opcode, connect)]),
      ...[8, 9, 10].map((opcode) => [frame(opcode, 'x', { fin: false })]),
      ...[8, 9, 10].map((opcode) => [frame(opcode, 'x'.repeat(126))]),
      ...[2n ** 63n, 2n ** 64n - 1n, 2n ** 40n, 2n ** 31n, 65_537n].map((length) => [frame(2, connect, { length })]),
      [frame(0, connect)],
      [frame(2, connect, { fin: false }), frame(2, connect)],
      [frame(1, Buffer.from([0xff, 0xfe, 0xc0]))],
      [frame(8, Buffer.from([3]))],
      [frame(8, Buffer.from([0xff, 0xff]))],
      [frame(2, connect), frame(2, Buffer.alloc(70_000))],
      [frame(2, connect, { fin: false }), ...Array.from({ length: 5_000 }, () => frame(0, 'x', { fin: false }))],
      [frame(2, connect), ...Array.from({ length: 2_000 }, () => frame(9, 'ping'))],
      [...connect].map((byte) => frame(2, Buffer.from([byte]))),
      [frame(2, Buffer.concat([connect, subscribe])), frame(1, 'text')],
    ]
    await each(forms, opened)
  })

  it('closes or continues when bytes of its frames change', { timeout: 120_000 }, async () => {
    const originals = Object.values(packets(program.token)).map((bytes) => frame(2, bytes))
    await each(mutated(originals, DRAWN / 3), (bytes) => opened([bytes]))
  })
})

describe('MQTT', () => {
  it('accepts no client by a malformed packet, and publishes nothing', { timeout: 120_000 }, async () => {
    const right = packets(program.token)
    const { connect } = right as { connect: Buffer }
    const others = Object.values(right)
    await each(mutated(others, DRAWN), (bytes) => exchange(program.mqttPort, [bytes]))
    await each(mutated(others, DRAWN), (bytes) => exchange(program.mqttPort, [connect, bytes]))
  })

  it('accepts packets in any order or closes the connection', async () => {
    const right = Object.values(packets(program.token))
    const orders = fc.sample(fc.array(fc.constantFrom(...right), { minLength: 1, maxLength: 12 }), {
      seed: SEED,
      numRuns: 300,
    })
    await each(orders, (some) => exchange(program.mqttPort, some))
  })

  it('buffers no packet above the size limit', { timeout: 60_000 }, async () => {
    const { connect } = packets(program.token) as { connect: Buffer }
    const before = program.residentMb
    const part = Buffer.alloc(1024 * 1024, 0x61)
    const forms = [
      (send: (bytes: Buffer) => void) => send(Buffer.concat([Buffer.from([0x30]), lengthOf(268_435_455)])),
      (send: (bytes: Buffer) => void) => send(Buffer.concat([Buffer.from([0x10]), lengthOf(200_000_000)])),
    ]
    for (const begin of forms) {
      for (const first of [connect, Buffer.alloc(0)]) {
        inputs++
        const socket = await open(program.mqttPort)
        const closed = closeOf(socket)
        if (first.length > 0) socket.write(first)
        begin((bytes) => socket.write(bytes))
        for (let sent = 0; sent < 64 && !socket.destroyed; sent++) {
          if (!socket.write(part)) await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), closed])
        }
        await closed
      }
    }
    const overWebSocket = [frame(2, connect), frame(2, Buffer.concat([Buffer.from([0x30]), lengthOf(100_000_000)]))]
    await exchange(program.port, [
      upgrade(program.token),
      ...overWebSocket,
      ...Array(64).fill(frame(2, part.subarray(0, 60_000))),
    ])
    expect(program.residentMb - before).toBeLessThan(GROWTH_MB_MAX)
  })

  it('releases the memory of its packets', { timeout: 120_000 }, async () => {
    const others = Object.values(packets(program.token))
    const round = () =>
      each(mutated(others, DRAWN), (bytes) => exchange(program.mqttPort, [packets(program.token).connect!, bytes]))
    await round()
    const before = program.residentMb
    await round()
    expect(program.residentMb - before).toBeLessThan(GROWTH_MB_MAX)
  })
})

it('answers 408 to clients with unfinished headers', { timeout: 60_000 }, async () => {
  const answers = slow.map(async (socket) => {
    let answer = ''
    for await (const chunk of socket) answer += chunk
    return statusesOf(answer)
  })
  expect(await Promise.all(answers)).toEqual(slow.map(() => [408]))
})
