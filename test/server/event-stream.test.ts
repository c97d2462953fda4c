import { once } from 'node:events'
import { connect } from 'node:net'
import { expect, it, vi } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { openTestQueue, type QueueServer, serveQueue } from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 100, startedAt: 0 }

async function run(queue: Queue, tasks: number, result: string): Promise<void> {
  await queue.submit(Array.from({ length: tasks }, () => completeSpec({ type: 't' })))
  const { leases } = await queue.turn({ worker: WORKER, want: tasks })
  const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result } as const }))
  await queue.turn({ worker: WORKER, want: 0, outcomes })
}

const clientsOf = (server: QueueServer) =>
  new Promise<number>((resolve) => server.fastify.server.getConnections((_, count) => resolve(count)))

it('tells a reader that resumes behind deleted events, and continues with the newest', async () => {
  const queue = await openTestQueue('sqlite::memory:', { eventsMax: 5 })
  const server = await serveQueue(queue, { handlers: { t: { run: () => null } } })
  await run(queue, 1, 'first')
  const { last } = await queue.events({ after: '', max: 1 })
  for (let round = 0; round < 3; round++) {
    await run(queue, 5, 'more')
    while ((await queue.sweep(100)).more);
  }
  const end = new AbortController()
  closeAfterwards(() => end.abort())
  const headers = { 'Last-Event-ID': last }
  const { body } = await fetch(`${server.url}/api/v1/events`, { headers, signal: end.signal })
  const reader = body!.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  while (!text.includes('"status":"success"')) text += (await reader.read()).value
  const [first] = text.split('\n\n')
  expect(text.match(/event: gap/g)).toHaveLength(1)
  expect(first).toContain('event: gap')
})

it.each(['1.5', '0x1', 'abc', '999'])('tells a reader that resumes at the unknown position %s', async (unknown) => {
  const queue = await openTestQueue()
  const server = await serveQueue(queue, { handlers: { t: { run: () => null } } })
  await run(queue, 2, 'first')
  const { last } = await queue.events({ after: null, max: 1 })
  const end = new AbortController()
  closeAfterwards(() => end.abort())
  const headers = { 'Last-Event-ID': unknown }
  const { body } = await fetch(`${server.url}/api/v1/events`, { headers, signal: end.signal })
  let text = ''
  for await (const chunk of body!.pipeThrough(new TextDecoderStream())) {
    text += chunk
    if (text.includes('\n\n')) break
  }
  expect(text).toContain(`event: gap\nid: ${last}\ndata: {"detail":"events may be missing`)
  expect(text).not.toContain('deleted')
})

it('disconnects a reader that does not read', async () => {
  const queue = await openTestQueue()
  const patience = { headersMs: 10_000, requestMs: 60_000, lookMs: 1_000, heartbeatMs: 15_000, drainMs: 200 }
  const server = await serveQueue(queue, { patience, handlers: { t: { run: () => null } } })
  const socket = connect(server.port, '127.0.0.1')
  closeAfterwards(() => socket.destroy())
  await once(socket, 'connect')
  socket.pause()
  socket.write('GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 0\r\n\r\n')
  await vi.waitFor(async () => expect(await clientsOf(server)).toBe(1))
  // More than the buffers of the connection hold.
  for (let round = 0; round < 4; round++) await run(queue, 10, 'x'.repeat(900_000))
  await vi.waitFor(async () => expect(await clientsOf(server)).toBe(0), { timeout: 20_000, interval: 50 })
})
