import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { DatabaseSync } from 'node:sqlite'
import mqtt from 'mqtt'
import { pino } from 'pino'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { AuditLog } from '../../src/access/audit.ts'
import { ANYONE } from '../../src/access/principal.ts'
import { startProgram } from '../fixtures/program.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const SOON_MS = 30_000
let guarded: Server
let admin: string
beforeAll(async () => {
  guarded = await startServer({ auth: 'keys', 'trusted-proxies': '127.0.0.0/8' })
  admin = await guarded.key(['admin'], { name: 'ann' })
})

const linesOf = (action: string) => guarded.audits().filter((line) => line.action === action)

it('records a change although its client disconnects before it is made', async () => {
  const lock = new DatabaseSync(guarded.queue.url.slice('sqlite:'.length))
  lock.exec('BEGIN IMMEDIATE') // Delays the change until the client has disconnected.
  const socket: Socket = connect(Number(new URL(guarded.url).port), '127.0.0.1')
  socket.on('error', () => undefined).resume()
  const head = ['POST /api/v1/concurrency HTTP/1.1', 'Host: x', `Authorization: Bearer ${admin}`]
  const body = JSON.stringify({ task_type: 'quick', max_concurrency: 7 })
  const rest = ['Content-Type: application/json', `Content-Length: ${body.length}`]
  socket.end(`${[...head, ...rest].join('\r\n')}\r\n\r\n${body}`)
  await once(socket, 'close')
  lock.exec('ROLLBACK')
  lock.close()
  await vi.waitFor(() => expect(linesOf('POST /api/v1/concurrency')).toHaveLength(1), { timeout: SOON_MS })
  expect(linesOf('POST /api/v1/concurrency')[0]).toMatchObject({ actor: 'ann', target: 'quick', status: 200 })
  expect((await guarded.as(admin).call('GET', '/concurrency/quick')).body.max_concurrency).toBe(7)
})

it('records the old and the new value of a limit, a rate and a pause', async () => {
  await guarded.as(admin).call('POST', '/concurrency', { task_type: 'show', max_concurrency: 3, group_concurrency: 2 })
  await guarded.as(admin).call('POST', '/concurrency', { task_type: 'show', max_concurrency: null })
  await guarded.as(admin).call('POST', '/types/show/rate', { max: 5, per: '1m' })
  await guarded.as(admin).call('POST', '/types/show/pause')
  await guarded.as(admin).call('POST', '/types/show/resume')
  const lines = guarded.audits().filter(({ target }) => target === 'show')
  expect(lines.map(({ from, to }) => [from, to])).toEqual([
    [
      { max_concurrency: null, group_concurrency: null },
      { max_concurrency: 3, group_concurrency: 2 },
    ],
    [{ max_concurrency: 3 }, { max_concurrency: null }],
    [{ rate: null }, { rate: { max: 5, perMs: 60_000 } }],
    [{ paused: false }, { paused: true }],
    [
      { paused: true, held_until: null },
      { paused: false, held_until: null },
    ],
  ])
})

it('records the filter of a bulk change and the number of tasks it matched', async () => {
  const task = { type: 'quick', delay: 60, batch: 'b1' }
  await guarded.as(admin).call('POST', '/tasks/batch', { tasks: [task, task, task] })
  await guarded.as(admin).call('POST', '/tasks/cancel', { type: 'quick', batch: 'b1' })
  expect(linesOf('POST /api/v1/tasks/cancel')).toMatchObject([{ filter: { type: 'quick', batch: 'b1' }, matched: 3 }])
  await guarded.as(admin).call('POST', '/batches/b1/retry')
  expect(linesOf('POST /api/v1/batches/:batch/retry')).toMatchObject([{ target: 'b1', matched: 3 }])
})

it('records refusals: reads, wrong keys, logins over HTTP and MQTT', async () => {
  const submitter = await guarded.key(['submit'], { name: 'sam' })
  const wrong = `xq_${'w'.repeat(43)}`
  await guarded.as(submitter).call('GET', '/tasks')
  await guarded.as(wrong).call('GET', '/workers')
  await guarded.as(null).call('POST', '/session', { key: wrong })
  const url = await guarded.mqttUrl(admin)
  for (const password of [wrong, submitter]) {
    const client = mqtt.connect(url, { username: 'key', password, reconnectPeriod: 0, protocolVersion: 4 })
    await once(client as never, 'error')
    await client.endAsync(true)
  }
  const refused = guarded.audits().filter((line) => line.refused)
  expect(refused).toMatchObject([
    { actor: 'sam', action: 'GET /api/v1/tasks', status: 403 },
    { actor: null, action: 'GET /api/v1/workers', status: 401 },
    { actor: null, action: 'POST /api/v1/session', status: 401 },
    { actor: null, action: 'MQTT CONNECT', ip: '127.0.0.1' },
    { actor: 'sam', action: 'MQTT CONNECT', ip: '127.0.0.1' },
  ])
  expect(guarded.log.join('')).not.toContain(wrong)
  expect(guarded.log.join('')).not.toContain(submitter)
})

it('names the client behind a trusted proxy, and ignores the headers of an untrusted one', async () => {
  const from = { 'X-Forwarded-For': '6.6.6.6, 203.0.113.7' }
  await guarded.as(admin).call('POST', '/types/quick/pause', undefined, from)
  expect(linesOf('POST /api/v1/types/:type/pause').at(-1)).toMatchObject({ ip: '203.0.113.7' })
  const trusting = await startServer({ auth: 'keys' })
  const key = await trusting.key(['admin'])
  await trusting.as(key).call('POST', '/types/quick/pause', undefined, from)
  expect(trusting.audits().at(-1)).toMatchObject({ action: 'POST /api/v1/types/:type/pause', ip: '127.0.0.1' })
  await trusting.stop()
})

describe('repeated refusals', () => {
  it('share a line with their count, for each address', () => {
    const lines: { ip: string; action: string; count?: number }[] = []
    const audit = new AuditLog(pino({}, { write: (line) => void lines.push(JSON.parse(line)) }))
    for (let n = 0; n < 100; n++) audit.refused(null, called('10.0.0.1'), 'no')
    audit.refused(ANYONE, called('10.0.0.2'), 'no')
    audit.close()
    expect(lines.filter(({ ip }) => ip === '10.0.0.1')).toHaveLength(21)
    expect(lines.filter(({ ip }) => ip === '10.0.0.2')).toHaveLength(1)
    expect(lines.at(-1)).toMatchObject({ action: 'more refusals', count: 80, ip: '10.0.0.1' })
  })
  it('begin again after ten seconds, with a line for those that had none', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const lines: Record<string, unknown>[] = []
    const audit = new AuditLog(pino({ level: 'fatal' }, { write: (line) => void lines.push(JSON.parse(line)) }))
    for (let n = 0; n < 20; n++) audit.refused(ANYONE, called('10.0.0.1'), 'no')
    expect(lines).toHaveLength(20)
    const parts = { audit: true, actor: 'anyone', actor_id: 'anyone', action: 'GET /api/v1/tasks', status: 401 }
    expect(lines.at(-1)).toMatchObject({ ...parts, refused: true, why: 'no', ip: '10.0.0.1', msg: 'audit', level: 40 })
    audit.refused(null, called('10.0.0.1'), 'no')
    expect(lines).toHaveLength(20)
    vi.advanceTimersByTime(9_999)
    expect(lines).toHaveLength(20)
    vi.advanceTimersByTime(1)
    expect(lines.at(-1)).toMatchObject({ action: 'more refusals', count: 1, ip: '10.0.0.1', refused: true })
    audit.refused(null, called('10.0.0.1'), 'no')
    expect(lines.at(-1)).toMatchObject({ actor: null, actor_id: null, why: 'no' })
    expect(vi.getTimerCount()).toBe(1)
    audit.close()
    expect([vi.getTimerCount(), lines.length]).toEqual([0, 22])
    vi.useRealTimers()
  })

  it('are not written where nothing is logged, and changes neither', () => {
    const lines: string[] = []
    const audit = new AuditLog(pino({ level: 'silent' }, { write: (line) => void lines.push(line) }))
    audit.refused(null, called('10.0.0.1'), 'no')
    audit.changed(ANYONE, called('10.0.0.1'))
    audit.close()
    expect(lines).toEqual([])
  })

  const called = (ip: string) => ({ action: 'GET /api/v1/tasks', target: null, status: 401, ip })
})

it('records the last change of a process before it ends, and the number of refusals without a line', async () => {
  const program = await startProgram({ guarded: true })
  const wrong = { Authorization: `Bearer xq_${'w'.repeat(43)}` }
  for (let n = 0; n < 25; n++) await fetch(`${program.url}/api/v1/stats`, { headers: wrong })
  expect((await program.call('POST', '/types/remote/pause')).status).toBe(200)
  await program.stop()
  const lines = () => program.log.split('\n').filter((line) => line.includes('"audit":true'))
  await vi.waitFor(
    () => {
      const last = lines().map((line) => JSON.parse(line))
      expect(last.filter(({ action }) => action === 'POST /api/v1/types/:type/pause')).toHaveLength(1)
      const refusals = last.filter(({ refused }) => refused).map(({ count = 1 }) => count)
      expect(refusals.reduce((sum, count) => sum + count, 0)).toBe(25)
    },
    { timeout: SOON_MS },
  )
})

it('does not sync the log to the disk after each write', async () => {
  const spy = `const fs = process.getBuiltinModule('fs')
    const sync = fs.fsyncSync
    fs.fsyncSync = (fd) => (fd === 2 ? fs.writeSync(2, 'the log was synced') : sync(fd))`
  const preload = `--import=data:text/javascript,${encodeURIComponent(spy)}`
  const program = await startProgram({ guarded: true, before: ['env', `NODE_OPTIONS=${preload}`] })
  expect((await program.call('POST', '/types/remote/pause')).status).toBe(200)
  await vi.waitFor(() => expect(program.log).toContain('/pause'), { timeout: SOON_MS })
  expect(program.log).not.toContain('synced')
  await program.stop()
})
