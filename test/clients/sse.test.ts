import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { FastifyInstance } from 'fastify'
import { beforeAll, expect, it, vi } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { PATIENCE } from '../../src/server/connections.ts'
import { pathOf } from '../fixtures/installed.ts'
import { removeAtExit } from '../fixtures/processes.ts'
import { python } from '../fixtures/python.ts'
import { openTestQueue, type QueueServer, serveQueue } from '../fixtures/server.ts'

/** Third-party readers of event streams receive only the changes of tasks. */

const EVENTS = 4
const here = join(import.meta.dirname, 'sse')
const programs = python('httpx-sse==0.4.*', 'httpx==0.28.*')
let queue: Queue
let server: QueueServer
let open = 0
let heartbeats = 0

beforeAll(async () => {
  queue = await openTestQueue('sqlite::memory:')
  await queue.configureType('one', { declared: true })
  const prepare = (fastify: FastifyInstance) =>
    fastify.addHook('onRequest', async (request, reply) => {
      if (!request.url.startsWith('/api/v1/events')) return
      const write = reply.raw.write.bind(reply.raw) as (chunk: string) => boolean
      reply.raw.write = ((chunk: string) => {
        if (chunk.startsWith('retry')) open++
        if (chunk.startsWith(':')) heartbeats++
        return write(chunk)
      }) as never
    })
  server = await serveQueue(queue, { patience: { ...PATIENCE, heartbeatMs: 10 }, prepare })
})

async function read(command: string, ...args: string[]): Promise<void> {
  const before = open
  const reader = spawn(command, [...args, `${server.url}/api/v1/events`, String(EVENTS)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const output = text(reader.stdout)
  await vi.waitFor(() => expect(open).toBe(before + 1), { timeout: 30_000 })
  const ids: string[] = []
  while (ids.length < EVENTS) {
    // Some before the first event, and some between.
    const beats = heartbeats
    await vi.waitFor(() => expect(heartbeats).toBeGreaterThan(beats + 2))
    const body = { type: 'one', payload: 'a\u2028b' }
    ids.push((await server.post('/tasks', body)).body.id)
  }
  const [code] = await once(reader, 'exit')
  expect(code).toBe(0)
  const events = (await output)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as [string, string, string])
  expect(events.map(([kind]) => kind)).toEqual(ids.map(() => 'status'))
  expect(events.map(([, , data]) => JSON.parse(data).task_id)).toEqual(ids)
  expect(events.every(([, id]) => id !== '')).toBe(true)
}

it.runIf(programs)('httpx-sse', () => read(join(programs!, 'python'), join(here, 'reader.py')))

it.runIf(pathOf('go'))('r3labs/sse', { timeout: 180_000 }, async () => {
  const program = join(removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-sse-'))), 'reader')
  execFileSync('go', ['build', '-o', program, '.'], { cwd: here, stdio: 'inherit' })
  await read(program)
})
