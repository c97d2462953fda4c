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

const NUMBER = /which a number cannot represent: send it as a string/
const TEXT = /an unpaired surrogate/
const REFUSED: [string, string, string, string, RegExp][] = [
  ['an integer', '/tasks', '{"type":"plain","payload":{"a":[{"id":9007199254740993}]}}', 'payload.a[0].id', NUMBER],
  ['a long id', '/tasks', '{"type":"plain","payload":1234567890123456789}', 'payload', NUMBER],
  ['an exponent', '/tasks', '{"type":"plain","payload":{"x":-1e400}}', 'payload.x', NUMBER],
  [
    'a number of a batch',
    '/tasks/batch',
    '{"tasks":[{"type":"plain","payload":[1e-400]}]}',
    'tasks[0].payload[0]',
    NUMBER,
  ],
  ['text of a payload', '/tasks', '{"type":"plain","payload":{"to":"\\ud83d"}}', 'payload.to', TEXT],
  ['the name of a field', '/tasks', '{"type":"plain","payload":{"\\udc00":1}}', 'payload.\ufffd', TEXT],
  ['a tag', '/tasks', '{"type":"plain","tags":{"to":"x\\uD83D"}}', 'tags.to', TEXT],
  ['a group', '/tasks', '{"type":"plain","group":"\\ud83d"}', 'group', TEXT],
  ['a batch', '/tasks', '{"type":"plain","batch":"\\ud83d"}', 'batch', TEXT],
  ['a key', '/tasks', '{"type":"plain","idempotency_key":"\\ud83d"}', 'idempotency_key', TEXT],
  ['a schedule', '/schedules', '{"id":"s","type":"plain","every":60,"tags":{"to":"\\ud83d"}}', 'tags.to', TEXT],
  ['a worker', '/tasks/consume', '{"types":["plain"],"worker_id":"\\ud83d"}', 'worker_id', TEXT],
]
it.each(REFUSED)('refuses %s with its path', async (_, path, text, at, message) => {
  const { status, body } = await post(path, text)
  expect([status, body.errors]).toEqual([400, [{ path: at, message: expect.stringMatching(message) }]])
})

it('refuses bytes that are not UTF-8', async () => {
  const text = new TextEncoder().encode('{"type":"plain","payload":"?"}')
  text[text.indexOf(0x3f)] = 0xe9 // é in Latin-1
  const { status, body } = await post('/tasks', text)
  expect([status, body.detail]).toEqual([400, expect.stringMatching(/not valid UTF-8/)])
})

it('takes a body with a byte order mark, whole pairs, and digits that are text or that a number keeps', async () => {
  const payload = '{"pair":"\\ud83d\\ude00","id":"1234567890123456789","float":1.5e300,"most":9007199254740991}'
  const { status, body } = await post('/tasks', `\ufeff{"type":"plain","payload":${payload}}`)
  expect([status, body.payload]).toEqual([201, JSON.parse(payload)])
})

it('names the Content-Encoding that it does not read', async () => {
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
])('says of %s what to send instead', async (_, type, detail) => {
  const { status, body } = await post('/tasks', '{"type":"plain"}', { 'content-type': type })
  expect([status, body.detail]).toEqual([415, expect.stringMatching(detail)])
  expect(body.detail).toMatch(/: send JSON with Content-Type: application\/json$/)
})

it('says how large a body may be', async () => {
  const { status, body } = await post('/tasks', `{"type":"plain","payload":"${'x'.repeat(2_000_000)}"}`)
  expect([status, body.detail]).toEqual([413, expect.stringMatching(/^the body has more than 1114112 bytes: /)])
})

it.each([
  ['{"type":"plain",}', /^the body is not valid JSON: .*double-quoted property name.* at position 16/],
  ['{"type":"plain","payload":NaN}', /^the body is not valid JSON: Unexpected token 'N'$/],
  ['{"type":"plain"', /^the body is not valid JSON: .* at position 15/],
])('says where %s is no JSON, and repeats nothing of it', async (text, detail) => {
  const { status, body } = await post('/tasks', text)
  expect([status, body.detail]).toEqual([400, expect.stringMatching(detail)])
  expect(body.detail).not.toContain('plain')
})

it.each([
  ['/tasks', '[{"type":"plain"}]', '', 'body: it must be object'],
  ['/tasks', '"plain"', '', 'body: it must be object'],
  ['/tasks/batch', '{"tasks":["plain"]}', 'tasks[0]', 'body: tasks[0] must be object'],
  ['/schedules', '[]', '', 'body: it must be object'],
])('of what is no object at %s, says only that: %s', async (path, text, at, detail) => {
  const { status, body } = await post(path, text)
  expect([status, body.errors, body.detail]).toEqual([400, [{ path: at, message: 'must be object' }], detail])
})

it.each(['0001-01-01T00:00:00Z', '1969-12-31T23:59:59.999Z', '2020-01-01T00:00:00+14:00'])(
  'takes %s as a time that is over',
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
  ['limit=ten', 'limit', 'must be integer'],
  ['tag=customer', 'tag', 'must be key:value, such as customer:7'],
])('says what is wrong with %s of a list', async (query, path, message) => {
  const answer = await server.get(`/tasks?${query}`)
  expect([answer.status, answer.body]).toEqual([400, expect.objectContaining({ errors: [{ path, message }] })])
})

describe('of a worker over HTTP', () => {
  it('refuses a result whose number would change, and keeps the lease', async () => {
    const { lease, task } = await take()
    const { status, body } = await post(`/leases/${lease}/complete`, '{"result":{"id":9007199254740993}}')
    expect([status, body.errors]).toEqual([400, [{ path: 'result.id', message: expect.stringMatching(NUMBER) }]])
    expect((await taskOf(task.id)).status).toBe('processing')
    expect((await post(`/leases/${lease}/complete`, '{"result":{"id":"9007199254740993"}}')).status).toBe(200)
  })

  it('repairs text of a result, an error and progress', async () => {
    const [one, two] = [await take(), await take()]
    expect((await post(`/leases/${one.lease}/heartbeat`, '{"progress":{"at":"\\ud83d"}}')).status).toBe(200)
    expect((await post(`/leases/${one.lease}/complete`, '{"result":["\\ud83d"]}')).status).toBe(200)
    expect((await post(`/leases/${two.lease}/fail`, '{"error":"cut \\ud83d"}')).status).toBe(200)
    expect(await taskOf(one.task.id)).toMatchObject({ result: ['\ufffd'], progress: { at: '\ufffd' } })
    expect((await taskOf(two.task.id)).error).toBe('cut \ufffd')
  })

  it('takes progress beyond 0 to 100 as the nearest, and refuses what is too large', async () => {
    const { lease, task } = await take()
    expect((await post(`/leases/${lease}/heartbeat`, '{"progress":100.00000000000001}')).status).toBe(200)
    expect((await taskOf(task.id)).progress).toBe(100)
    const { status, body } = await post(`/leases/${lease}/heartbeat`, `{"progress":{"x":"${'x'.repeat(20_000)}"}}`)
    expect([status, body.errors[0].path]).toEqual([400, 'progress'])
  })

  it.each(['-1', '1e400', '31622401', '"soon"'])('refuses a delay of %s with its path', async (delay) => {
    const { lease } = await take()
    const { status, body } = await post(`/leases/${lease}/fail`, `{"error":"busy","delay":${delay}}`)
    expect(status).toBe(400)
    expect(JSON.stringify(body)).toContain('delay')
  })
})
