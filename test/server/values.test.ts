import { gzipSync } from 'node:zlib'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { openTestQueue, type QueueServer, serveQueue } from '../fixtures/server.ts'

/** Values in bodies, as the bytes that clients in any language send. */

let queue: Queue
let server: QueueServer
beforeAll(async () => {
  queue = await openTestQueue('sqlite::memory:')
  server = await serveQueue(queue, { handlers: { plain: { run: () => null } } })
})
beforeEach(() => post('/tasks/cancel', '{}'))

const post = (path: string, body: string | Uint8Array, headers?: Record<string, string>) =>
  server.post(path, body, headers)
const take = async () => {
  await post('/tasks', '{"type":"plain","max_retry":0}')
  const { leases } = (await post('/tasks/consume', '{"types":["plain"]}')).body
  return leases[0] as { lease: string; task: { id: string } }
}
const taskOf = async (id: string) => (await queue.get([id]))[0]!

const NUMBER = /whose digits a number does not keep: send it as a string/
const TEXT = /an unpaired surrogate/
const REFUSED: [string, string, string, string, RegExp][] = [
  [
    'an integer beyond the safe range',
    '/tasks',
    '{"type":"plain","payload":{"a":[{"id":9007199254740993}]}}',
    'payload.a[0].id',
    NUMBER,
  ],
  ['a long id', '/tasks', '{"type":"plain","payload":1234567890123456789}', 'payload', NUMBER],
  ['an exponent out of range', '/tasks', '{"type":"plain","payload":{"x":-1e400}}', 'payload.x', NUMBER],
  [
    'an inexact number in a batch',
    '/tasks/batch',
    '{"tasks":[{"type":"plain","payload":[1e-400]}]}',
    'tasks[0].payload[0]',
    NUMBER,
  ],
  ['an unpaired surrogate in a payload', '/tasks', '{"type":"plain","payload":{"to":"\\ud83d"}}', 'payload.to', TEXT],
  [
    'an unpaired surrogate in the name of a field',
    '/tasks',
    '{"type":"plain","payload":{"\\udc00":1}}',
    'payload.\ufffd',
    TEXT,
  ],
  ['an unpaired surrogate in a tag', '/tasks', '{"type":"plain","tags":{"to":"x\\uD83D"}}', 'tags.to', TEXT],
  ['an unpaired surrogate in a group', '/tasks', '{"type":"plain","group":"\\ud83d"}', 'group', TEXT],
  ['an unpaired surrogate in a batch name', '/tasks', '{"type":"plain","batch":"\\ud83d"}', 'batch', TEXT],
  [
    'an unpaired surrogate in an idempotency key',
    '/tasks',
    '{"type":"plain","idempotency_key":"\\ud83d"}',
    'idempotency_key',
    TEXT,
  ],
  [
    'an unpaired surrogate in a schedule',
    '/schedules',
    '{"id":"s","type":"plain","every":60,"tags":{"to":"\\ud83d"}}',
    'tags.to',
    TEXT,
  ],
  [
    'an unpaired surrogate in a worker id',
    '/tasks/consume',
    '{"types":["plain"],"worker_id":"\\ud83d"}',
    'worker_id',
    TEXT,
  ],
]
it.each(REFUSED)('refuses %s with its path', async (_, path, text, at, message) => {
  const { status, body } = await post(path, text)
  expect([status, body.errors]).toEqual([400, [{ path: at, message: expect.stringMatching(message) }]])
})

it.each(['utf-16', 'ISO-8859-1', '"latin1"', 'banana'])('refuses the character set %s', async (charset) => {
  const headers = { 'Content-Type': `application/json; charset=${charset}` }
  const answer = await fetch(`${server.url}/api/v1/tasks`, { method: 'POST', headers, body: '{"type":"plain"}' })
  const name = charset.replaceAll('"', '')
  expect([answer.status, await answer.json()]).toMatchObject([
    400,
    { detail: `the body is ${name}: encode its JSON as UTF-8` },
  ])
})

it.each(['utf-8', 'UTF8', '"utf-8"'])('accepts the character set %s', async (charset) => {
  const headers = { 'Content-Type': `application/json;charset=${charset}` }
  const answer = await fetch(`${server.url}/api/v1/tasks`, { method: 'POST', headers, body: '{"type":"plain"}' })
  expect(answer.status).toBe(201)
})

it('refuses bytes that are not UTF-8', async () => {
  const text = new TextEncoder().encode('{"type":"plain","payload":"?"}')
  text[text.indexOf(0x3f)] = 0xe9 // é in Latin-1
  const { status, body } = await post('/tasks', text)
  expect([status, body.detail]).toEqual([400, expect.stringMatching(/not valid UTF-8/)])
})

it('accepts a byte order mark, surrogate pairs, and digits that are text or that a number represents exactly', async () => {
  const payload = '{"pair":"\\ud83d\\ude00","id":"1234567890123456789","float":1.5e300,"most":9007199254740991}'
  const { status, body } = await post('/tasks', `\ufeff{"type":"plain","payload":${payload}}`)
  expect([status, body.payload]).toEqual([201, JSON.parse(payload)])
})

it('names an unsupported Content-Encoding', async () => {
  const headers = { 'content-type': 'application/json', 'content-encoding': 'gzip' }
  const { status, body } = await post('/tasks', new Uint8Array(gzipSync('{"type":"plain"}')), headers)
  expect([status, body.code, body.detail]).toEqual([
    415,
    'unsupported_media_type',
    'the body has Content-Encoding gzip: send it uncompressed, without this header',
  ])
  const plain = { ...headers, 'content-encoding': 'identity' }
  expect((await post('/tasks', '{"type":"plain"}', plain)).status).toBe(201)
})

it.each([
  ['a form', 'application/x-www-form-urlencoded', /^the body has Content-Type application\/x-www-form-urlencoded: /],
  ['text', 'text/plain', /^the body has Content-Type text\/plain: /],
])('refuses %s, and says how to fix it', async (_, type, detail) => {
  const { status, body } = await post('/tasks', '{"type":"plain"}', { 'content-type': type })
  expect([status, body.detail]).toEqual([415, expect.stringMatching(detail)])
  expect(body.detail).toMatch(/: send JSON with Content-Type: application\/json$/)
})

it('names the maximum size of a body', async () => {
  const { status, body } = await post('/tasks', `{"type":"plain","payload":"${'x'.repeat(2_000_000)}"}`)
  expect([status, body.detail]).toEqual([413, expect.stringMatching(/^the body has more than 1114112 bytes: /)])
})

it.each([
  ['{"type":"plain",}', /^the body is not valid JSON: .*double-quoted property name.* at position 16/],
  ['{"type":"plain","payload":NaN}', /^the body is not valid JSON: Unexpected token 'N'$/],
  ['{"type":"plain"', /^the body is not valid JSON: .* at position 15/],
])('reports where %s is invalid JSON, without repeating it', async (text, detail) => {
  const { status, body } = await post('/tasks', text)
  expect([status, body.detail]).toEqual([400, expect.stringMatching(detail)])
  expect(body.detail).not.toContain('plain')
})

it.each([
  ['/tasks', '[{"type":"plain"}]', '', 'the body must be an object'],
  ['/tasks', '"plain"', '', 'the body must be an object'],
  ['/tasks/batch', '{"tasks":["plain"]}', 'tasks[0]', 'body: tasks[0] must be an object'],
  ['/schedules', '[]', '', 'the body must be an object'],
])('reports only that the value at %s must be an object: %s', async (path, text, at, detail) => {
  const { status, body } = await post(path, text)
  expect([status, body.errors, body.detail]).toEqual([400, [{ path: at, message: 'must be an object' }], detail])
})

it.each([
  ['/tasks', 'tags', (task: object) => task],
  ['/tasks/batch', 'tasks[0].tags', (task: object) => ({ tasks: [task] })],
  ['/schedules', 'tags', (task: object, id: string) => ({ id, every: 60, ...task })],
])('names of tags at %s have 1 to 64 characters', async (path, at, bodyOf) => {
  const ask = (name: string) =>
    post(path, JSON.stringify(bodyOf({ type: 'plain', tags: { [name]: 'x' } }, `s-${name.length}`)))
  for (const [name, told] of [
    ['', '""'],
    ['k'.repeat(65), `"${'k'.repeat(65)}"`],
    ['k'.repeat(100_000), `"${'k'.repeat(200)}"`],
  ] as const) {
    const { status, body } = await ask(name)
    const message = `has the name ${told}: use 1 to 64 characters`
    expect([status, body.errors]).toEqual([400, [{ path: at, message }]])
  }
  for (const name of ['k', 'k'.repeat(64)]) expect((await ask(name)).status).toBeLessThan(300)
})

it('reports the long name of a limit in a few words', async () => {
  const uses = { ['x'.repeat(100_000)]: 1 }
  const { status, body } = await post('/tasks', JSON.stringify({ type: 'plain', uses }))
  expect([status, body.errors[0].path]).toEqual([400, `uses.${'x'.repeat(495)}`])
  expect(body.detail.length).toBeLessThan(1_000)
})

it('reports a field with a long name in a few words', async () => {
  const { status, body } = await post('/tasks', JSON.stringify({ type: 'plain', ['x'.repeat(100_000)]: 1 }))
  expect([status, body.errors]).toEqual([400, [{ path: 'x'.repeat(500), message: 'is not a known field' }]])
})

it.each(['0001-01-01T00:00:00Z', '1969-12-31T23:59:59.999Z', '2020-01-01T00:00:00+14:00'])(
  'accepts %s as a time in the past',
  async (time) => {
    const { status, body } = await post('/tasks', `{"type":"plain","run_at":"${time}"}`)
    expect([status, body.status]).toEqual([201, 'pending'])
    expect((await server.get(`/tasks/${body.id}/explain`)).body).not.toMatchObject({ reason: 'delayed' })
  },
)

it.each([
  ['limit=-1', 'limit', 'must be >= 1'],
  ['offset=-1', 'offset', 'must be >= 0'],
  ['limit=1000000000', 'limit', 'must be <= 1000'],
  ['limit=ten', 'limit', 'must be an integer'],
  ['tag=customer', 'tag', 'must be key:value, such as customer:7'],
])('refuses the query %s with a reason', async (query, path, message) => {
  const answer = await server.get(`/tasks?${query}`)
  expect([answer.status, answer.body]).toEqual([400, expect.objectContaining({ errors: [{ path, message }] })])
})

describe('a worker over HTTP', () => {
  it('receives an error for a result with an inexact number, and keeps the lease', async () => {
    const { lease, task } = await take()
    const { status, body } = await post(`/leases/${lease}/complete`, '{"result":{"id":9007199254740993}}')
    expect([status, body.errors]).toEqual([400, [{ path: 'result.id', message: expect.stringMatching(NUMBER) }]])
    expect((await taskOf(task.id)).status).toBe('processing')
    expect((await post(`/leases/${lease}/complete`, '{"result":{"id":"9007199254740993"}}')).status).toBe(200)
  })

  it('may send invalid Unicode in a result, an error and progress, which is repaired', async () => {
    const [one, two, three] = [await take(), await take(), await take()]
    expect((await post(`/leases/${one.lease}/heartbeat`, '{"progress":{"at":"\\ud83d"}}')).status).toBe(200)
    expect((await post(`/leases/${one.lease}/complete`, '{"result":["\\ud83d"]}')).status).toBe(200)
    expect((await post(`/leases/${two.lease}/fail`, '{"error":"cut \\ud83d"}')).status).toBe(200)
    const outcome = `{"lease":"${three.lease}","result":["\\ud83d"]}`
    expect((await post('/tasks/turn', `{"outcomes":[${outcome}]}`)).status).toBe(200)
    expect(await taskOf(one.task.id)).toMatchObject({ result: ['\ufffd'], progress: { at: '\ufffd' } })
    expect((await taskOf(two.task.id)).error).toBe('cut \ufffd')
    expect((await taskOf(three.task.id)).result).toEqual(['\ufffd'])
  })

  it('may send progress outside 0 to 100, which is clamped, but no progress that is too large', async () => {
    const { lease, task } = await take()
    expect((await post(`/leases/${lease}/heartbeat`, '{"progress":100.00000000000001}')).status).toBe(200)
    expect((await taskOf(task.id)).progress).toBe(100)
    const { status, body } = await post(`/leases/${lease}/heartbeat`, `{"progress":{"x":"${'x'.repeat(20_000)}"}}`)
    expect([status, body.errors[0].path]).toEqual([400, 'progress'])
  })

  it.each(['-1', '1e400', '31622401', '"soon"'])('receives an error with the path for a delay of %s', async (delay) => {
    const { lease } = await take()
    const { status, body } = await post(`/leases/${lease}/fail`, `{"error":"busy","delay":${delay}}`)
    expect(status).toBe(400)
    expect(JSON.stringify(body)).toContain('delay')
  })
})

it('the refusal of a single task names its fields without a position', async () => {
  await server.call('PUT', '/limits/gpu', { max: 2 })
  const task = { type: 'plain', uses: { gpu: 3 } }
  const { body } = await server.post('/tasks', task)
  expect(body.errors).toMatchObject([{ path: 'uses.gpu' }])
  expect(body.detail).toMatch(/^uses\.gpu is 3/)
  expect((await server.post('/tasks/batch', { tasks: [task] })).body.detail).toMatch(/^tasks\[0\]\.uses\.gpu is 3/)
})

it('the refusal of a name of a limit says which names there are', async () => {
  const { status, body } = await server.call('PUT', '/limits/type:', { max: 2 })
  const form = 'must be a name of up to 200 characters, type:TYPE, group:TYPE/GROUP or group:TYPE/*'
  expect({ status, errors: body.errors }).toEqual({ status: 400, errors: [{ path: 'name', message: form }] })
})
