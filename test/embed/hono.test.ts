import { once } from 'node:events'
import type { AddressInfo, Server } from 'node:net'
import { join } from 'node:path'
import { serve } from '@hono/node-server'
import { getConnInfo } from '@hono/node-server/conninfo'
import { Hono } from 'hono'
import { pino } from 'pino'
import { expect, it } from 'vitest'
import { createClient, defineHandlers, type ServerOptions, startXQueue, type TaskWith } from '../../src/index.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { temporaryFolder } from '../fixtures/folder.ts'

const handlers = defineHandlers({ double: { run: ({ payload }: TaskWith<number>) => payload * 2 } })

async function startEmbedded(options: ServerOptions = {}) {
  const engine = `sqlite:${join(temporaryFolder(), 'x.db')}`
  const quiet = { logger: pino({ level: 'silent' }) }
  const xqueue = await startXQueue({ engine, handlers, listen: false, basePath: '/queue', ...quiet, ...options })
  closeAfterwards(() => xqueue.stop())
  return xqueue
}

async function listening(app: Hono): Promise<string> {
  const server = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }) as Server
  closeAfterwards(() => void server.close())
  if (!server.listening) await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** A Hono application with the queue below /queue, and a route of its own. */
async function startHono(options?: ServerOptions): Promise<string> {
  const xqueue = await startEmbedded(options)
  const app = new Hono()
  app.all('/queue/*', (c) => xqueue.fetch(c.req.raw, { remoteAddress: getConnInfo(c).remote.address }))
  app.get('/own', (c) => c.text('of the application'))
  return listening(app)
}

const tasksOf = (url: string) => `${url}/queue/api/v1/tasks`
const post = (body: string | ReadableStream): RequestInit => ({
  method: 'POST',
  body,
  headers: { 'Content-Type': 'application/json' },
})

/** Reads a stream until it contains the text. */
async function readUntil(reader: ReadableStreamDefaultReader<Uint8Array>, text: string): Promise<string> {
  const decoder = new TextDecoder()
  let read = ''
  while (!read.includes(text)) {
    const { done, value } = await reader.read()
    if (done) throw new Error(`the stream ended after: ${read}`)
    read += decoder.decode(value, { stream: true })
  }
  return read
}

it('serves API and dashboard inside a Hono application', async () => {
  const url = await startHono()
  const client = createClient<typeof handlers>(`${url}/queue`)
  const task = await client.submit('double', 5)
  expect(await client.result(task)).toBe(10)
  expect(await Array.fromAsync(client.list({ type: 'double' }))).toMatchObject([{ id: task.id, status: 'success' }])
  const page = await fetch(`${url}/queue`)
  expect([page.status, page.redirected]).toEqual([200, false])
  const html = await page.text()
  const [, script] = /<script[^>]* src="([^"]+)"/.exec(html)!
  expect((await fetch(new URL(script!, page.url))).headers.get('content-type')).toMatch(/javascript/)
  const head = await fetch(`${url}/queue/`, { method: 'HEAD' })
  expect([head.status, await head.text()]).toEqual([200, ''])
  const unknown = await fetch(`${url}/queue/api/v1/nothing`)
  expect([unknown.status, await unknown.json()]).toMatchObject([404, { code: 'not_found' }])
  expect(await (await fetch(`${url}/own`)).text()).toBe('of the application')
})

it('streams events through Hono while they happen, and ends them when the client leaves or the queue stops', async () => {
  const xqueue = await startEmbedded()
  const left = Promise.withResolvers<void>()
  const app = new Hono()
  app.all('/queue/*', async (c) => {
    const answer = await xqueue.fetch(c.req.raw)
    if (!c.req.path.endsWith('/events')) return answer
    // Cancelled by Hono when its client disconnects.
    const passed = answer.body!.pipeThrough(new TransformStream({ cancel: () => left.resolve() }))
    return new Response(passed, answer)
  })
  const url = await listening(app)
  const stream = await fetch(`${url}/queue/api/v1/events`)
  const reader = stream.body!.getReader()
  const { id } = await createClient<typeof handlers>(`${url}/queue`).submit('double', 5)
  expect(await readUntil(reader, '"success"')).toContain(id)
  await reader.cancel()
  await left.promise
  const other = await fetch(`${url}/queue/api/v1/events`)
  const [text] = await Promise.all([other.text(), xqueue.stop()])
  expect(text).not.toContain(id)
})

it('passes bodies on up to the limit, and refuses larger ones', async () => {
  const url = await startHono()
  const task = (chars: number) => JSON.stringify({ type: 'double', payload: 'x'.repeat(chars) })
  const accepted = await fetch(tasksOf(url), post(task(1_000_000)))
  expect([accepted.status, await accepted.json()]).toMatchObject([201, { type: 'double' }])
  const large = await fetch(tasksOf(url), post(task(3_000_000)))
  expect([large.status, await large.json()]).toMatchObject([413, { status: 413 }])
})

it('answers a refused body before it has arrived, and stops reading it', async () => {
  const { fetch: handle } = await startEmbedded()
  const stopped = Promise.withResolvers<unknown>()
  const endless = new ReadableStream({
    pull: (controller) => controller.enqueue(new Uint8Array(64 * 1024).fill(32)),
    cancel: stopped.resolve,
  })
  const answer = await handle(
    new Request(tasksOf('http://127.0.0.1'), { ...post(endless), duplex: 'half' } as RequestInit),
  )
  expect([answer.status, await answer.json()]).toMatchObject([413, { status: 413 }])
  await stopped.promise
})

it('ends a call whose caller aborts it, before the answer and within it', async () => {
  const { fetch: handle } = await startEmbedded()
  const url = tasksOf('http://127.0.0.1')
  await expect(handle(new Request(url, { signal: AbortSignal.abort('gone') }))).rejects.toBe('gone')
  for (const headers of [{}, { 'Content-Length': '9' }]) {
    const sending = new AbortController()
    const cancelled = Promise.withResolvers<unknown>()
    const pull = () => sending.abort('left')
    const silent = new ReadableStream({ pull, cancel: cancelled.resolve }, { highWaterMark: 0 })
    const half = { ...post(silent), headers, duplex: 'half', signal: sending.signal } as RequestInit
    await expect(handle(new Request(url, half))).rejects.toBe('left')
    await cancelled.promise
  }
  const reading = new AbortController()
  const stream = await handle(new Request(url.replace('tasks', 'events'), { signal: reading.signal }))
  const reader = stream.body!.getReader()
  reading.abort('enough')
  await expect(readUntil(reader, 'never')).rejects.toThrow()
  // A caller has at most 100 streams, so the server has noticed the end of each.
  for (let n = 0; n <= 101; n++) {
    const { status, body } = await handle(new Request(url.replace('tasks', 'events')))
    expect(status).toBe(200)
    await body!.cancel()
  }
})

it('reports a body that was read before', async () => {
  const { fetch: handle } = await startEmbedded()
  const app = new Hono()
  app.use(async (c, next) => {
    await c.req.json()
    await next()
  })
  app.all('/queue/*', (c) => handle(c.req.raw))
  const answer = await fetch(tasksOf(await listening(app)), post('{"type":"double","payload":1}'))
  expect([answer.status, await answer.text()]).toMatchObject([500, expect.stringContaining('was read before XQueue')])
})

it('fails on a body of another length than its header, and ignores the header without a body', async () => {
  const { fetch: handle } = await startEmbedded()
  const url = tasksOf('http://127.0.0.1')
  const task = '{"type":"double","payload":1}'
  for (const length of [task.length - 1, task.length + 1]) {
    const request = new Request(url, post(task))
    request.headers.set('Content-Length', String(length))
    await expect(handle(request)).rejects.toThrow(`Content-Length is ${length}, but`)
  }
  const { status } = await handle(new Request(url, { method: 'POST', headers: { 'Content-Length': '5' } }))
  expect(status).toBe(400)
})

it('refuses other host names without access control', async () => {
  const { fetch: handle } = await startEmbedded()
  expect((await handle(new Request(tasksOf('http://shop.example')))).status).toBe(403)
})

it('writes the address of the client to the audit log, through a trusted proxy too', async () => {
  const lines: string[] = []
  const logger = pino({}, { write: (line: string) => void lines.push(line) })
  const { fetch: handle } = await startEmbedded({ logger, auth: 'keys', trustedProxies: '10.0.0.0/8' })
  const request = () =>
    new Request(tasksOf('http://127.0.0.1'), { headers: { Authorization: 'Bearer x', 'X-Forwarded-For': '192.0.2.7' } })
  for (const remoteAddress of ['198.51.100.1', '10.0.0.1', undefined]) {
    expect((await handle(request(), { remoteAddress })).status).toBe(401)
  }
  const refused = lines.map((line) => JSON.parse(line)).filter((line) => line.refused)
  expect(refused.map(({ ip }) => ip ?? null)).toEqual(['198.51.100.1', '192.0.2.7', null])
})
