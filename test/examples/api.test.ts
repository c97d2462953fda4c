import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { beforeAll, expect, it } from 'vitest'
import { type Program, startProgram } from '../fixtures/program.ts'
import { root } from '../fixtures/root.ts'
import { finish, node, start } from './example-program.ts'

let server: Program

beforeAll(async () => {
  server = await startProgram({ handlers: join(root, 'handlers/index.ts') })
})

const script = join(root, 'examples/test_api.sh')

it('test_api.sh makes every documented call, and every answer is as expected', async () => {
  expect(await finish(start(server, script, []))).toMatch(/OK: \d+ calls, all \d+ that are documented\n$/)
  expect((await server.call('GET', '/stats')).body).toMatchObject({ pending_tasks: 0, processing_tasks: 0 })
})

type Answer = readonly [status: number, body: string]

it.each<[string, string, (...answer: Answer) => Answer]>([
  ['another status', 'POST /api/v1/tasks', (status, body) => [status === 201 ? 202 : status, body]],
  ['a missing field', 'GET /api/v1/stats', (status) => [status, '{"pending_tasks": 0}']],
  [
    'an unknown call',
    'GET /openapi.json',
    (status, body) => [status, body.replace('"paths":{', '"paths":{"/api/v1/new":{"get":{}},')],
  ],
])('test_api.sh fails for %s', async (_, call, change) => {
  const liar = await between(server.url, (made, ...answer) => (made === call ? change(...answer) : answer))
  const output = await finish(start({ folder: server.folder, url: liar.url }, script, []), 1)
  expect(output).toMatch(new RegExp(`FAILED (${call}|GET /api/v1/new): `))
  liar.server.close()
})

it('stress.ts sends a bounded load, and reports the rate', async () => {
  const output = await finish(node(server, 'stress.ts', '--tasks', '250', '--batch', '20', '--waiting', '60'))
  expect(output).toMatch(
    /submitted {2}250 tasks, \d+ a second\nfinished {3}250 well, 0 not, \d+ a second\nwaited {5}p50/,
  )
})

it('stress.ts reports how many tasks did not succeed', async () => {
  const flags = ['--tasks', '5', '--type', 'http', '--payload', '{"url": "http://127.0.0.1:9/"}']
  expect(await finish(node(server, 'stress.ts', ...flags), 1)).toContain('0 well, 5 not')
})

it('stress.ts loads another machine only with a flag, and always for a limited time', async () => {
  const elsewhere = await finish(node(server, 'stress.ts', '--server', 'http://192.0.2.1:8080'), 2)
  expect(elsewhere).toContain('say --anywhere')
  expect(await finish(node(server, 'stress.ts', '--tasks', 'many'), 2)).toContain('whole number')
})

/** A proxy between a caller and the real server, which changes answers. */
async function between(
  url: string,
  change: (call: string, ...answer: Answer) => Answer,
): Promise<{ server: Server; url: string }> {
  const proxy = createServer(async (request, response) => {
    let text = ''
    for await (const chunk of request) text += chunk
    const sent = ['content-type', 'idempotency-key'].flatMap((name) => [[name, request.headers[name]]])
    const headers = Object.fromEntries(sent.filter(([, value]) => value !== undefined)) as Record<string, string>
    const answer = await fetch(url + request.url, { method: request.method!, headers, ...(text ? { body: text } : {}) })
    const reported = ['content-type', 'location'].map((name) => [name, answer.headers.get(name) ?? ''])
    if (answer.headers.get('content-type') === 'text/event-stream') {
      response.writeHead(answer.status, Object.fromEntries(reported))
      await pipeline(answer.body!, response).catch(() => undefined) // It ends when either side has heard enough.
      return
    }
    const call = `${request.method} ${request.url!.split('?')[0]}`
    const [status, body] = change(call, answer.status, await answer.text())
    response.writeHead(status, Object.fromEntries(reported)).end(body)
  })
  await once(proxy.listen(0, '127.0.0.1'), 'listening')
  return { server: proxy, url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` }
}
