import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterEach, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { createClient } from '../../src/client/client.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { defineHandlers } from '../../src/worker/handler.ts'
import { main } from '../fixtures/root.ts'
import { openTestQueue, type QueueServer, serveQueue } from '../fixtures/server.ts'

let queue: Queue
let server: QueueServer

const handlers = defineHandlers({
  plain: { run: () => null },
  strict: { payload: z.object({ n: z.number() }), maxRetry: 7, run: () => null },
})

beforeAll(async () => {
  queue = await openTestQueue('sqlite::memory:')
  server = await serveQueue(queue, { handlers })
})
afterEach(async () => {
  for (const { id } of await queue.schedules()) await queue.schedules({ drop: id })
})

const call = (method: string, path: string, body?: object) => server.call(method, `/schedules${path}`, body)
const report = { id: 'report', type: 'strict', payload: { n: 1 }, cron: '30 2 * * MON-FRI', timezone: 'Europe/Berlin' }

it('adds a schedule, once, with the defaults of its type and its next five times', async () => {
  const { status, headers, body } = await call('POST', '', report)
  expect([status, headers.get('location')]).toEqual([201, '/api/v1/schedules/report'])
  const defaults = { max_retry: 7, catch_up: 'one', overlap: 'allow', paused: false, every: null, last_at: null }
  expect(body).toMatchObject({ ...report, ...defaults })
  expect(body.upcoming).toHaveLength(5)
  expect(body.upcoming[0]).toBe(body.next_at)
  const again = await call('POST', '', report)
  expect([again.status, again.body, again.headers.get('location')]).toEqual([200, body, headers.get('location')])
  expect((await call('GET', '')).body).toMatchObject({ count: 1, schedules: [{ id: 'report' }] })
  const other = await call('POST', '', { ...report, payload: { n: 2 } })
  expect([other.status, other.body.code]).toEqual([409, 'schedule_exists'])
})

it.each([
  ['two fields', { cron: '* *' }, 'cron', 'must have five fields'],
  ['a field out of range', { cron: '61 * * * *' }, 'cron', 'has the invalid minute "61": use 0-59'],
  ['an unknown time zone', { timezone: 'Europe/Belin' }, 'timezone', 'did you mean Europe/Berlin'],
  ['cron with an interval', { every: '15m' }, 'every', 'cannot be given together with cron'],
  ['no cron and no interval', { cron: undefined, timezone: undefined }, 'cron', 'is required'],
  ['a short interval', { cron: undefined, timezone: undefined, every: '10ms' }, 'every', 'must be from 1 second'],
  ['a time zone with an interval', { cron: undefined, every: '1h' }, 'timezone', 'cannot be given together with every'],
  ['an invalid id', { id: 'a b' }, 'id', 'must begin with a letter or digit'],
  ['an invalid payload', { payload: { n: 'x' } }, 'payload.n', ''],
  ['a delay', { delay: '1h' }, 'delay', 'is not a known field'],
  ['a predecessor', { after: ['x'] }, 'after', 'is not a known field'],
  ['a failure policy', { on_failure: 'run' }, 'on_failure', 'is not a known field'],
  ['a batch', { batch: 'b' }, 'batch', 'is not a known field'],
  ['an unknown catch-up', { catch_up: 'some' }, 'catch_up', 'must be one of none, one, all'],
])('refuses a schedule with %s, and says how to fix it', async (_, wrong, path, message) => {
  const { status, body } = await call('POST', '', { ...report, ...wrong })
  expect(status).toBe(400)
  expect(body.errors).toContainEqual({ path, message: expect.stringContaining(message) })
  expect(await queue.schedules()).toEqual([])
})

it('names the known types for an unknown one', async () => {
  const { status, body } = await call('POST', '', { id: 'a', type: 'nothing', every: '1h' })
  expect([status, body.code]).toEqual([400, 'unknown_type'])
  expect(body.registered_types).toEqual(['plain', 'strict'])
})

it('changes the named fields and no others', async () => {
  const { body: before } = await call('POST', '', report)
  const { body: paused } = await call('PATCH', '/report', { paused: true })
  expect(paused).toEqual({ ...before, paused: true, next_at: null, upcoming: [], updated_at: paused.updated_at })
  const { body: zoned } = await call('PATCH', '/report', { timezone: 'Asia/Tokyo', paused: false, priority: 4 })
  expect(zoned).toMatchObject({
    cron: report.cron,
    timezone: 'Asia/Tokyo',
    priority: 4,
    max_retry: 7,
    payload: { n: 1 },
  })
  const { body: every } = await call('PATCH', '/report', { every: '1h', payload: { n: 2 } })
  expect(every).toMatchObject({ every: 3600, cron: null, timezone: null, payload: { n: 2 }, priority: 4 })
  expect((await call('PATCH', '/report', { payload: {} })).body.code).toBe('invalid_payload')
  expect((await call('PATCH', '/report', { type: 'plain' })).status).toBe(400)
  expect((await call('PATCH', '/report', {})).status).toBe(400)
})

it('applies two simultaneous changes, each checked against the present state', async () => {
  await call('POST', '', report)
  const changes = [{ cron: '0 8 * * *' }, { timezone: 'Asia/Tokyo' }, { priority: 4 }]
  await Promise.all(changes.map((change) => call('PATCH', '/report', change)))
  expect((await call('GET', '/report')).body).toMatchObject(Object.assign({}, ...changes))
  // Whichever comes first.
  await Promise.all([{ every: '1h' }, { timezone: 'UTC' }].map((change) => call('PATCH', '/report', change)))
  expect((await call('GET', '/report')).body).toMatchObject({ every: 3600, cron: null, timezone: null })
  const { status, body } = await call('PATCH', '/report', { timezone: 'UTC' })
  expect([status, body.errors]).toEqual([400, [{ path: 'timezone', message: expect.stringContaining('needs cron') }]])
})

it('runs a schedule on request and removes it; its task stays', async () => {
  await call('POST', '', { ...report, paused: true })
  const { status, body } = await call('POST', '/report/run')
  expect(status).toBe(201)
  expect((await queue.get([body.last_task_id]))[0]).toMatchObject({ type: 'strict', payload: { n: 1 } })
  expect((await call('DELETE', '/report')).status).toBe(200)
  expect((await queue.get([body.last_task_id]))[0]).not.toBeNull()
})

it('answers 404 for an unknown schedule', async () => {
  for (const [method, path, body] of [
    ['GET', '/x'],
    ['PATCH', '/x', { paused: true }],
    ['DELETE', '/x'],
    ['POST', '/x/run'],
  ] as const) {
    expect((await call(method, path, body)).body).toMatchObject({ status: 404, code: 'not_found' })
  }
})

it('previews the next five times before a schedule is added', async () => {
  const { status, body } = await call('POST', '/preview', { cron: '0 12 29 2 *' })
  expect(status).toBe(200)
  expect(body.upcoming.map((at: string) => at.slice(4))).toEqual(Array(5).fill('-02-29T12:00:00.000Z'))
  expect((await call('POST', '/preview', { cron: '0 0 31 2 *' })).body.detail).toContain('never ticks')
})

it('is available in the typed client', async () => {
  const { schedules } = createClient<typeof handlers>(server.url)
  const added = await schedules.add('hourly', 'strict', { n: 3 }, { every: '1h', overlap: 'skip', maxRetry: 1 })
  expect(added).toMatchObject({ id: 'hourly', type: 'strict', payload: { n: 3 }, every: 3_600, maxRetry: 1 })
  expect(added.upcoming[0]).toEqual(added.nextAt)
  expect(await schedules.list()).toMatchObject([{ id: 'hourly', overlap: 'skip' }])
  expect((await schedules.pause('hourly')).nextAt).toBeNull()
  expect((await schedules.resume('hourly')).paused).toBe(false)
  expect((await schedules.change('hourly', { cron: '0 8 * * *', timezone: 'Europe/Berlin' })).every).toBeNull()
  const { lastTaskId } = await schedules.run('hourly')
  expect((await schedules.get('hourly')).lastTaskId).toBe(lastTaskId)
  await schedules.remove('hourly')
  await expect(schedules.get('hourly')).rejects.toMatchObject({ code: 'not_found' })
})

it('is available on the command line', async () => {
  const run = async (...args: string[]) => {
    const { stdout } = await promisify(execFile)(process.execPath, [main, 'schedule', ...args, '--server', server.url])
    return stdout.trim()
  }
  expect((await run('add', 'sync', 'strict', '{"n":1}', '--every', '15m', '--priority', '2')).split('\n')).toHaveLength(
    6,
  )
  expect(await run('list')).toMatch(/^ID .*\nsync +strict +every 15m +on /)
  expect(await run('pause', 'sync')).toBe('paused')
  expect(await run('resume', 'sync')).toMatch(/^sync: next tick \d{4}-/)
  const taskId = await run('run', 'sync')
  expect((await queue.get([taskId]))[0]).toMatchObject({ type: 'strict', priority: 2 })
  expect(JSON.parse(await run('show', 'sync', '--json'))).toMatchObject({ every: 900, last_task_id: taskId })
  expect(await run('remove', 'sync')).toBe('sync removed')
  await expect(run('add', 'x', 'strict', '{"n":1}', '--cron', 'never')).rejects.toThrow('must have five fields')
})
