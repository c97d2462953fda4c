import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Engine } from '../../src/engine/engine.ts'
import { openEngine } from '../../src/engine/open.ts'
import { createServer } from '../../src/server/server.ts'
import { announce, normalizeHandlers } from '../../src/worker/handlers.ts'

/** Values in bodies, as the bytes that clients in any language send. */

let engine: Engine
let server: FastifyInstance
let url: string
beforeAll(async () => {
  const handlers = normalizeHandlers({ plain: { run: () => null } })
  engine = await openEngine('sqlite::memory:')
  await announce(engine, handlers)
  const logger = pino({ level: 'silent' })
  server = await createServer({ engine, handlers, logger, version: '1', instanceId: 'i', registry: new Registry() })
  url = `${await server.listen({ host: '127.0.0.1', port: 0 })}/api/v1`
})
afterAll(async () => {
  await server.close()
  await engine.close()
})
beforeEach(() => post('/tasks/cancel', '{}'))

// biome-ignore lint/suspicious/noExplicitAny: answers of every call, compared field by field
async function post(path: string, body: string | Uint8Array<ArrayBuffer>): Promise<{ status: number; body: any }> {
  const headers = { 'content-type': 'application/json' }
  const answer = await fetch(url + path, { method: 'POST', headers, body })
  return { status: answer.status, body: await answer.json() }
}
const take = async () => {
  await post('/tasks', '{"type":"plain","max_retry":0}')
  const { leases } = (await post('/tasks/consume', '{"types":["plain"]}')).body
  return leases[0] as { lease: string; task: { id: string } }
}
const taskOf = async (id: string) => (await engine.get([id]))[0]!

const NUMBER = /which a number does not keep: send it as a string/
const TEXT = /half a surrogate pair/
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
