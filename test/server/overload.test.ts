import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { Agent, type IncomingMessage, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { beforeEach, expect, it, vi } from 'vitest'
import { createClient } from '../../src/client/client.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { ADMISSION } from '../../src/server/admission.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { startProgram } from '../fixtures/program.ts'
import { root } from '../fixtures/root.ts'
import { openTestQueue, type QueueServer, serveQueue } from '../fixtures/server.ts'

/** A server that refuses submissions and reads because it has too many, and answers everything else. */

let queue: Queue
let server: QueueServer
beforeEach(async () => {
  queue = await openTestQueue()
  await queue.configureType('t', { declared: true })
  server = await serveQueue(queue, { admission: { ...ADMISSION, callsMax: 1 } })
})

const BODY = JSON.stringify({ type: 't' })
const HEAD = `POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${BODY.length}\r\n`

/** The figure of a metric. */
async function metric(name: string): Promise<number> {
  const line = ((await server.get('/metrics')).body as string).split('\n').find((one) => one.startsWith(`${name} `))
  return Number(line?.slice(name.length))
}
const unanswered = () => metric('xqueue_http_unanswered')
const refused = () => metric('xqueue_http_shed_total{reason="calls"}')

/** A submission whose body has not arrived in full: it has no answer. */
async function beginSubmission(): Promise<{ socket: Socket; end: () => Promise<string> }> {
  const socket = connect(server.port, '127.0.0.1')
  socket.write(`${HEAD}Connection: close\r\n\r\n${BODY.slice(0, 1)}`)
  await vi.waitFor(async () => expect(await unanswered()).toBe(1))
  const end = () => {
    socket.write(BODY.slice(1))
    return text(socket)
  }
  return { socket, end }
}

it('refuses submissions and reads with 503 and Retry-After, and accepts them as soon as others are answered', async () => {
  const { end } = await beginSubmission()
  const calls = [
    ['POST', '/tasks', { type: 't' }],
    ['POST', '/tasks/batch', { tasks: [{ type: 't' }] }],
    ['GET', '/tasks?limit=50'],
    ['GET', '/stats'],
  ] as const
  for (const [method, path, body] of calls) {
    const answer = await server.call(method, path, body)
    expect([method, path, answer.status, answer.headers.get('retry-after')]).toEqual([method, path, 503, '1'])
    expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/)
    expect(answer.body).toMatchObject({ type: 'urn:xqueue:problem:overloaded', status: 503, code: 'overloaded' })
  }
  expect(await refused()).toBe(calls.length)
  expect(await end()).toMatch(/^HTTP\/1\.1 201/)
  for (const [method, path, body] of calls) expect((await server.call(method, path, body)).status).toBeLessThan(300)
  expect((await queue.stats()).counts.pending).toBe(3)
})

/** Calls on one connection. */
async function onOneConnection(headers: Record<string, string>, times: number) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const options = { agent, method: 'POST', headers: { 'Content-Type': 'application/json', ...headers } }
  const sockets = new Set<Socket>()
  const answers = []
  for (let n = 0; n < times; n++) {
    const call = request(`${server.url}/api/v1/tasks`, options).end(BODY)
    const [answer] = (await once(call, 'response')) as [IncomingMessage]
    sockets.add(call.socket!)
    const { date: _, ...found } = answer.headers
    const { request_id, ...problem } = JSON.parse(await text(answer))
    answers.push({ status: answer.statusCode, headers: found, problem, hasId: request_id !== undefined })
  }
  agent.destroy()
  expect(sockets.size).toBe(1)
  return answers
}

it('refuses the second call of a connection before the framework sees it, in the same words', async () => {
  const { end } = await beginSubmission()
  const [first, second] = await onOneConnection({}, 2)
  expect([first!.hasId, second!.hasId]).toEqual([true, false])
  const { 'content-length': _, ...headers } = first!.headers
  expect(second).toMatchObject({ status: 503, headers, problem: first!.problem })
  expect(Object.keys(second!.headers).sort()).toEqual(Object.keys(first!.headers).sort())
  const metrics = (await server.get('/metrics')).body as string
  expect(metrics).toContain('xqueue_http_requests_total{method="POST",route="/api/v1/tasks",status="503"} 2')
  expect(metrics).toContain('xqueue_submissions_total{outcome="refused"} 2')
  await end()
})

it('refuses a page of another site with the headers that let it read the answer', async () => {
  server = await serveQueue(queue, { admission: { ...ADMISSION, callsMax: 1 }, corsOrigins: ['https://site.example'] })
  const { end } = await beginSubmission()
  for (const { status, headers } of await onOneConnection({ Origin: 'https://site.example' }, 2)) {
    expect([status, headers['access-control-allow-origin']]).toEqual([503, 'https://site.example'])
  }
  await end()
})

it('answers workers, operators, health checks and metrics', async () => {
  await server.submit('t')
  const { end } = await beginSubmission()
  const taken = await server.post('/tasks/turn', { types: ['t'], max: 1 })
  expect(taken.status).toBe(200)
  const [{ lease }] = taken.body.leases
  expect((await server.post(`/leases/${lease}/heartbeat`)).status).toBe(200)
  expect((await server.post(`/leases/${lease}/complete`, { result: 1 })).status).toBe(200)
  for (const path of ['/live', '/health', '/metrics', '/openapi.json'])
    expect((await server.get(path)).status).toBe(200)
  expect((await server.post('/types/t/pause')).status).toBe(200)
  expect(await refused()).toBe(0)
  await end()
})

it('no longer counts a call whose client has disconnected before it was sent in full', async () => {
  const { socket } = await beginSubmission()
  socket.destroy()
  await vi.waitFor(async () => expect(await unanswered()).toBe(0))
  await server.submit('t')
  expect(await refused()).toBe(0)
})

it('does not count calls that are refused for other reasons', async () => {
  for (const call of [{ type: 't', priority: 99 }, { type: 'unknown' }, '{']) await server.post('/tasks', call)
  await server.get('/tasks/none')
  expect(await unanswered()).toBe(0)
  await server.submit('t')
})

const run = promisify(execFile)
const submitted = async (env: object, command: string, ...args: string[]) =>
  (await run(command, args, { env: { ...process.env, ...env }, cwd: join(root, 'clients/go') })).stdout.trim()
/** Each submits one task without an idempotency key, and returns its id. */
const CLIENTS: Record<string, (url: string) => Promise<string>> = {
  TypeScript: async (url) => (await createClient(url).submit('t', {})).id,
  Python: (url) => {
    const env = { XQUEUE_SERVER: url, PYTHONPATH: join(root, 'clients/python') }
    return submitted(env, 'python3', '-c', "from xqueue import Client; print(Client().submit('t').id)")
  },
  Go: (url) => submitted({ XQUEUE_SERVER: url }, 'go', 'run', './internal/testsubmit', 't'),
}

it.for(Object.keys(CLIENTS))('the %s client repeats a refused submission, also without a key', async (name) => {
  const { end } = await beginSubmission()
  const id = CLIENTS[name]!(server.url)
  await vi.waitFor(async () => expect(await refused()).toBeGreaterThan(0), { timeout: 60_000 })
  await end()
  expect((await queue.get([await id]))[0]).toMatchObject({ type: 't' })
  expect((await queue.stats()).counts.pending).toBe(2)
})

/** Opens connections at once, sends a request on each, and prints the numbers of answers and of lost connections. */
const CROWD = `
const { connect } = require('node:net')
const [port, count, ready, token] = process.argv.slice(1)
let [sent, answers, lost] = [0, 0, 0]
const over = () => { if (answers + lost === Number(count)) { console.log(answers + ' answered, ' + lost + ' lost'); process.exit() } }
for (let index = 0; index < count; index++) {
  let answered = false
  const socket = connect(port, '127.0.0.1', () => {
    socket.write('GET /api/v1/tasks/none HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nAuthorization: Bearer ' + token + '\\r\\n\\r\\n', () => {
      if (++sent === Number(count)) require('node:fs').writeFileSync(ready, '')
    })
  })
  socket.on('data', () => { if (!answered) { answered = true; answers++; over() } })
  socket.on('error', () => {})
  socket.on('close', () => { if (!answered) { lost++; over() } })
}`

it.for([false, true])('answers each of 3,000 clients that came while it was stopped (guarded: %s)', async (guarded) => {
  const crowded = await startProgram({ guarded })
  // It knows the key from now on.
  expect((await crowded.get('/stats')).status).toBe(200)
  process.kill(crowded.pid, 'SIGSTOP')
  const ready = join(temporaryFolder(), 'ready')
  const args = ['-e', CROWD, new URL(crowded.url).port, '3000', ready, crowded.token]
  const crowd = endAtExit(spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] }))
  // The system accepts them, without the process.
  await vi.waitFor(() => expect(existsSync(ready)).toBe(true), { timeout: 30_000 })
  process.kill(crowded.pid, 'SIGCONT')
  const [output] = await Promise.all([text(crowd.stdout!), once(crowd, 'exit')])
  expect(output.trim()).toBe('3000 answered, 0 lost')
})
