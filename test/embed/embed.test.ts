import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo, Server } from 'node:net'
import { join } from 'node:path'
import express from 'express'
import { fastify } from 'fastify'
import { pino } from 'pino'
import { expect, it } from 'vitest'
import {
  createClient,
  defineHandlers,
  fastifyXQueue,
  type Log,
  startServer,
  startWorker,
  startXQueue,
  type TaskWith,
} from '../../src/index.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { temporaryFolder } from '../fixtures/folder.ts'

const handlers = defineHandlers({
  double: { run: ({ payload }: TaskWith<number>) => payload * 2 },
  slow: {
    run: async (_task: TaskWith<null>, { log }) => {
      log.info('started')
      began.resolve()
      await running.promise
      return 'ended'
    },
  },
})
let began = Promise.withResolvers<void>()
let running = Promise.withResolvers<void>()

const engine = () => `sqlite:${join(temporaryFolder(), 'x.db')}`
const quiet = pino({ level: 'silent' })
const clientAt = (url: string) => createClient<typeof handlers>(url)

/** Starts to listen; returns the address. */
async function listening(server: Server): Promise<string> {
  closeAfterwards(() => void server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

it('runs server and worker in the process of a program, and lets running tasks finish at its stop', async () => {
  began = Promise.withResolvers()
  running = Promise.withResolvers()
  const url = engine()
  const xqueue = await startXQueue({
    engine: url,
    port: 0,
    handlers,
    concurrency: 2,
    shutdown: '20s',
    logger: quiet,
  })
  const client = clientAt(xqueue.address!)
  expect(await client.result(await client.submit('double', 21))).toBe(42)
  await client.submit('slow', null)
  await began.promise
  const stopped = xqueue.stop()
  running.resolve()
  await stopped
  await expect(client.stats()).rejects.toMatchObject({ code: 'engine_unavailable' })
  await using again = await startServer({ engine: url, port: 0, logger: quiet })
  const tasks = await Array.fromAsync(clientAt(again.address!).list({ type: 'slow' }))
  expect(tasks).toMatchObject([{ status: 'success', result: 'ended', deliveries: 1 }])
})

it.each([
  ['startXQueue', startXQueue],
  ['startServer', startServer],
])('changes nothing if %s cannot listen', async (_, start) => {
  const url = engine()
  const nap = (concurrency: number) => ({ concurrency, run: () => null })
  await using server = await startServer({ engine: url, port: 0, handlers: { nap: nap(4) }, logger: quiet })
  const port = Number(new URL(server.address!).port)
  const inVain = { port, handlers: { nap: nap(77), other: nap(1) }, logger: quiet }
  await expect(start({ ...inVain, engine: url })).rejects.toThrow(`port ${port} is in use`)
  const types = await clientAt(server.address!).types.list()
  expect(types.map(({ type, maxConcurrency }) => [type, maxConcurrency])).toEqual([['nap', 4]])
  const file = join(temporaryFolder(), 'new.db')
  await expect(start({ ...inVain, engine: `sqlite:${file}` })).rejects.toThrow(`port ${port} is in use`)
  expect(existsSync(file)).toBe(false)
})

it('runs a server and a worker of their own on one store', async () => {
  const settings = { engine: engine(), logger: quiet }
  await using server = await startServer({ ...settings, port: 0, handlers })
  await using worker = await startWorker({ ...settings, handlers })
  expect([server.types, worker.types, worker.address]).toEqual([['double', 'slow'], ['double', 'slow'], null])
  const client = clientAt(server.address!)
  expect(await client.result(await client.submit('double', 4))).toBe(8)
})

it('names a setting that is unknown or not valid', async () => {
  const wrong = { concurency: 5 } as object
  await expect(startXQueue(wrong)).rejects.toThrow('"concurency" in the options is not a setting: did you mean')
  await expect(startXQueue({ port: -1 })).rejects.toThrow('port is "-1" (from the options): it must be')
  await expect(startXQueue({ engine: engine(), handlers: { 'a b': {} } as never })).rejects.toMatchObject({
    code: 'invalid_handlers',
  })
})

it('writes to the log of the program, also one that is not Pino', async () => {
  const lines: [fields: object, message: string | undefined][] = []
  const logOf = (fields: object): Log => {
    const line = (more: object | string, message?: string) =>
      void lines.push(typeof more === 'string' ? [fields, more] : [{ ...fields, ...more }, message])
    const levels = { trace: line, debug: line, info: line, warn: line, error: line, fatal: line }
    return { ...levels, child: (more) => logOf({ ...fields, ...more }) }
  }
  running = Promise.withResolvers()
  running.resolve()
  await using xqueue = await startXQueue({ engine: engine(), port: 0, handlers, logger: logOf({ app: 'shop' }) })
  const client = clientAt(xqueue.address!)
  const task = await client.submit('slow', null)
  await client.result(task)
  const written = lines.find(([, message]) => message === 'started')
  expect(written?.[0]).toMatchObject({ app: 'shop', task_id: task.id, type: 'slow', attempt: 1 })
})

/** The API, the dashboard with its files, and the event stream below /queue. */
async function expectAll(url: string): Promise<void> {
  const client = clientAt(`${url}/queue`)
  expect(await client.result(await client.submit('double', 5))).toBe(10)
  const page = await fetch(`${url}/queue`)
  expect([page.status, page.redirected]).toEqual([200, false])
  const html = await page.text()
  expect(html).toContain('<title>XQueue')
  const [, script] = /<script[^>]* src="([^"]+)"/.exec(html)!
  expect((await fetch(new URL(script!, page.url))).headers.get('content-type')).toMatch(/javascript/)
  expect((await fetch(`${url}/queue/docs`)).status).toBe(200)
  const refused = await fetch(`${url}/queue/api/v1/tasks`, { method: 'POST', body: '{"type": 5}' })
  expect(refused.headers.get('content-type')).toMatch(/problem\+json/)
  const unknown = await fetch(`${url}/queue/api/v1/nothing`)
  expect(await unknown.json()).toMatchObject({ status: 404, code: 'not_found' })
  expect(await (await fetch(`${url}/own`)).text()).toBe('of the application')
}

it('serves API and dashboard inside an Express application', async () => {
  const options = { engine: engine(), handlers, logger: quiet, basePath: '/queue' }
  await using xqueue = await startXQueue({ ...options, listen: false })
  expect(xqueue.address).toBeNull()
  const app = express()
  app.use('/queue', xqueue.handler)
  app.use(express.json())
  app.get('/own', (_request, response) => void response.send('of the application'))
  await expectAll(await listening(createServer(app)))
})

it('reports a body parser of Express that has read the body before', async () => {
  await using xqueue = await startXQueue({
    engine: engine(),
    handlers,
    logger: quiet,
    listen: false,
    basePath: '/queue',
  })
  const app = express()
  app.use(express.json())
  app.use('/queue', xqueue.handler)
  const client = clientAt(`${await listening(createServer(app))}/queue`)
  await expect(client.submit('double', 1)).rejects.toThrow('mount its handler before body parsers')
  expect((await client.stats()).tasks.pending).toBe(0)
})

it('serves API and dashboard inside a plain Node.js server that passes whole paths on', async () => {
  await using xqueue = await startXQueue({
    engine: engine(),
    handlers,
    logger: quiet,
    listen: false,
    basePath: '/queue',
  })
  const server = createServer((request, response) => {
    if (request.url === '/own') response.end('of the application')
    else xqueue.handler(request, response)
  })
  await expectAll(await listening(server))
})

it('is a plugin of Fastify, behind its hooks, and stops with the application', async () => {
  const app = fastify()
  app.get('/own', async () => 'of the application')
  app.register(async (guarded) => {
    guarded.addHook('onRequest', async (request, reply) => {
      if (request.headers['x-user'] === 'stranger') return reply.code(403).send('of the application')
    })
    guarded.register(fastifyXQueue, { prefix: '/queue', engine: engine(), handlers, logger: quiet })
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  closeAfterwards(() => app.close())
  await expectAll(url)
  const refused = await fetch(`${url}/queue/api/v1/stats`, { headers: { 'X-User': 'stranger' } })
  expect([refused.status, await refused.text()]).toEqual([403, 'of the application'])
  // An open stream does not keep the application from closing.
  const stream = await fetch(`${url}/queue/api/v1/events`)
  await app.close()
  await stream.text().catch(() => undefined)
  await expect(fetch(`${url}/own`)).rejects.toThrow()
})

it('does not answer for other host names without access control, also inside another server', async () => {
  await using xqueue = await startXQueue({ engine: engine(), handlers, logger: quiet, listen: false })
  const url = await listening(createServer(xqueue.handler))
  const { status } = await new Promise<{ status: number }>((resolve, reject) => {
    import('node:http').then(({ get }) =>
      get(`${url}/api/v1/stats`, { headers: { Host: 'shop.example' } }, (response) => {
        response.resume()
        resolve({ status: response.statusCode! })
      }).on('error', reject),
    )
  })
  expect(status).toBe(403)
})
