import { once } from 'node:events'
import { connect } from 'node:net'
import { afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { z } from 'zod'
import type { Queue } from '../../src/queue/queue.ts'
import type { Handlers } from '../../src/worker/handler.ts'
import { openTestQueue, type QueueServer, serveQueue } from '../fixtures/server.ts'

let queue: Queue
let server: QueueServer

const handlers: Handlers = {
  plain: { run: () => null },
  strict: { payload: z.object({ n: z.number() }), maxRetry: 7, processTimeout: '5s', run: () => null },
}

beforeAll(async () => {
  queue = await openTestQueue()
  server = await serveQueue(queue, { handlers })
})
beforeEach(() => post('/tasks/cancel', {}))

const get = (path: string) => server.get(path)
const post = (path: string, body?: unknown, headers = {}) => server.post(path, body, headers)
const submit = async (body: object = {}) => (await post('/tasks', { type: 'plain', ...body })).body as { id: string }
const consume = async (more: object = {}) =>
  (await post('/tasks/consume', { types: ['plain'], ...more })).body.leases as { lease: string; task: { id: string } }[]

describe('POST /tasks', () => {
  it('answers 201 with the task and its Location', async () => {
    const { status, headers, body } = await post('/tasks', {
      type: 'plain',
      delay: '1h30m',
      priority: 9,
      tags: { a: 'b' },
    })
    expect(status).toBe(201)
    expect(headers.get('location')).toBe(`/api/v1/tasks/${body.id}`)
    expect(body).toMatchObject({ status: 'pending', priority: 9, max_retry: 3, queue_timeout: 600, tags: { a: 'b' } })
    expect(Date.parse(body.run_at) - Date.parse(body.created_at)).toBe(5_400_000)
    expect((await get(`/tasks/${body.id}`)).body).toEqual(body)
  })

  it('uses the defaults of the handler', async () => {
    const { body } = await post('/tasks', { type: 'strict', payload: { n: 1 } })
    expect(body).toMatchObject({ max_retry: 7, process_timeout: 5 })
  })

  it('answers 200 with the earlier task for a known key, and 409 for a different body', async () => {
    const key = { 'Idempotency-Key': 'k1' }
    const first = await post('/tasks', { type: 'plain', payload: 1 }, key)
    const again = await post('/tasks', { type: 'plain', payload: 1, idempotency_key: 'k1' })
    expect([first.status, again.status]).toEqual([201, 200])
    expect(again.body.id).toBe(first.body.id)
    expect((await post('/tasks', { type: 'plain', payload: 2 }, key)).status).toBe(409)
  })

  it.each([
    ['no type', {}, 'type'],
    ['an unknown field', { type: 'plain', foo: 1 }, 'foo'],
    ['a priority out of range', { type: 'plain', priority: 11 }, 'priority'],
    ['a priority as text', { type: 'plain', priority: '1' }, 'priority'],
    ['a negative duration', { type: 'plain', delay: -1 }, 'delay'],
    ['a duration beyond the maximum', { type: 'plain', queue_timeout: '9999d' }, 'queue_timeout'],
    ['an invalid time', { type: 'plain', run_at: 'tomorrow' }, 'run_at'],
    ['delay and run_at', { type: 'plain', delay: 1, run_at: '2030-01-01T00:00:00Z' }, 'run_at'],
    ['a tag that is not a string', { type: 'plain', tags: { a: 1 } }, 'tags.a'],
    ['an invalid payload', { type: 'strict', payload: { n: 'x' } }, 'payload.n'],
    ['a group without a name', { type: 'plain', group: '' }, 'group'],
    ['a group of 129 characters', { type: 'plain', group: 'x'.repeat(129) }, 'group'],
    ['a group with control characters', { type: 'plain', group: 'a\nb' }, 'group'],
    ['a limit', { type: 'plain', max_concurrency: 3 }, 'max_concurrency'],
    ['a concurrency key', { type: 'plain', concurrency_key: 'x' }, 'concurrency_key'],
    ['an unknown type', { type: 'nope' }, 'type'],
  ])('refuses %s with 400 and its path, and queues nothing', async (_, body, path) => {
    const answer = await post('/tasks', body)
    expect(answer.status).toBe(400)
    expect(answer.headers.get('content-type')).toContain('application/problem+json')
    expect(answer.body.errors).toContainEqual({ path, message: expect.any(String) })
    expect((await get('/stats')).body.pending_tasks).toBe(0)
  })

  it('names the registered types for an unknown one', async () => {
    expect((await post('/tasks', { type: 'nope' })).body.registered_types).toEqual(['plain', 'strict'])
  })

  it.each(['', '{', '"text"', 'null', '[]', '{"type":"plain","__proto__":{}}'])(
    'refuses the body %j with 400',
    async (body) => {
      expect((await post('/tasks', body)).status).toBe(400)
    },
  )

  it('refuses a payload over 1 MiB with 413, and another media type with 415', async () => {
    expect((await post('/tasks', { type: 'plain', payload: 'x'.repeat(1024 * 1024) })).status).toBe(413)
    expect((await post('/tasks', { type: 'plain', payload: 'x'.repeat(2 * 1024 * 1024) })).status).toBe(413)
    expect((await post('/tasks', 'type=plain', { 'content-type': 'application/x-www-form-urlencoded' })).status).toBe(
      415,
    )
    const body = Buffer.from('{"type":"plain"}')
    const bare = await fetch(`${server.url}/api/v1/tasks`, { method: 'POST', body })
    expect([bare.status, await bare.json()]).toMatchObject([
      415,
      { detail: expect.stringContaining('no Content-Type') },
    ])
  })
})

describe('trace context, in a server without an SDK', () => {
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
  const headers = { traceparent, tracestate: 'vendor=7' }

  afterEach(() => post('/tasks/cancel', { type: 'plain' }))

  it('is passed on as tags of the task, and of each task of a batch', async () => {
    const one = await post('/tasks', { type: 'plain', tags: { a: 'b' } }, headers)
    expect(one.body.tags).toEqual({ a: 'b', ...headers })
    await post('/tasks/batch', { tasks: [{ type: 'plain' }, { type: 'plain' }] }, headers)
    const found = await get(`/tasks?tag=traceparent:${traceparent}`)
    expect(found.body.tasks.map(({ tags }: { tags: object }) => tags)).toHaveLength(3)
    for (const { lease, task } of await consume({ max: 3 })) {
      expect(task).toMatchObject({ tags: headers })
      await post(`/leases/${lease}/complete`, {})
    }
  })

  it('is ignored if it is not valid, and kept if the body has one', async () => {
    expect((await post('/tasks', { type: 'plain' }, { traceparent: 'nonsense' })).body.tags).toEqual({})
    const own = { traceparent: traceparent.replace(/01$/, '00') }
    expect((await post('/tasks', { type: 'plain', tags: own }, headers)).body.tags).toEqual(own)
  })

  it('does not distinguish requests with the same key', async () => {
    const task = { type: 'plain', idempotency_key: 'traced' }
    const [first, second] = [await post('/tasks', task, headers), await post('/tasks', task)]
    expect([first.status, second.status]).toEqual([201, 200])
    expect(second.body.tags).toEqual(headers)
  })
})

describe('POST /tasks/batch', () => {
  it('accepts 10,000 at once', async () => {
    const { status, body } = await post('/tasks/batch', { tasks: Array(10_000).fill({ type: 'plain' }) })
    expect([status, body.count]).toEqual([201, 10_000])
    expect(await post('/tasks/cancel', { type: 'plain' })).toMatchObject({ status: 202, body: { count: 10_000 } })
  })

  it('accepts none if one is invalid, and names its index', async () => {
    const tasks = Array(100).fill({ type: 'plain' })
    for (const [bad, path] of [
      [{ type: 'plain', priority: -1 }, 'tasks[42].priority'],
      [{ type: 'nope' }, 'tasks[42].type'],
      [{ type: 'strict', payload: {} }, 'tasks[42].payload.n'],
      [{ type: 'plain', delay: 'x' }, 'tasks[42].delay'],
      [{ type: 'plain', group: '\u0000' }, 'tasks[42].group'],
    ] as const) {
      const { status, body } = await post('/tasks/batch', { tasks: tasks.with(42, bad) })
      expect(status).toBe(400)
      expect(body.errors).toContainEqual({ path, message: expect.any(String) })
    }
    expect((await get('/stats')).body.pending_tasks).toBe(0)
  })

  it('refuses an empty batch and one of more than 10,000', async () => {
    expect((await post('/tasks/batch', { tasks: [] })).status).toBe(400)
    expect((await post('/tasks/batch', { tasks: Array(10_001).fill({ type: 'plain' }) })).status).toBe(400)
  })
})

describe('a task', () => {
  it('is listed by status, type and tag, page by page', async () => {
    for (const n of ['1', '2', '1']) await submit({ tags: { n } })
    const { body } = await get('/tasks?status=pending&type=plain&tag=n:1&limit=1')
    expect(body).toMatchObject({ count: 1, tasks: [{ tags: { n: '1' } }] })
    const next = await get(`/tasks?status=pending&type=plain&tag=n:1&limit=1&cursor=${body.next_cursor}`)
    expect((next.body.tasks as { id: string }[])[0]!.id).not.toBe((body.tasks as { id: string }[])[0]!.id)
    for (const query of ['limit=0', 'limit=1001', 'limit=x', 'status=gone', 'tag=x', 'cursor=!', 'page=2']) {
      expect((await get(`/tasks?${query}`)).status).toBe(400)
    }
  })

  it('is canceled once, retried after that, and answers 404 if it is unknown', async () => {
    const { id } = await submit()
    expect(await server.call('DELETE', `/tasks/${id}`)).toMatchObject({ status: 200, body: { status: 'canceled' } })
    expect((await server.call('DELETE', `/tasks/${id}`)).status).toBe(409)
    expect(await post(`/tasks/${id}/retry`)).toMatchObject({ status: 200, body: { status: 'pending', attempts: 0 } })
    expect((await post(`/tasks/${id}/retry`)).status).toBe(409)
    for (const path of ['/tasks/none', '/tasks/none/explain']) expect((await get(path)).status).toBe(404)
    expect((await server.call('DELETE', '/tasks/none')).status).toBe(404)
  })

  it('is purged if it has finished, and otherwise refused with a remedy', async () => {
    const { id } = await submit({ delay: '1h' })
    const refused = await post(`/tasks/${id}/purge`)
    expect([refused.status, refused.body.code]).toEqual([409, 'task_not_finished'])
    expect(refused.body.detail).toContain(`task ${id} is pending and cannot be purged: cancel it`)
    expect((await server.call('DELETE', `/tasks/${id}?purge=true`)).status).toBe(400)
    expect((await server.call('DELETE', `/tasks/${id}`)).body.status).toBe('canceled')
    expect(await post(`/tasks/${id}/purge`)).toMatchObject({ status: 204, body: '' })
    expect((await get(`/tasks/${id}`)).status).toBe(404)
    expect((await post(`/tasks/${id}/purge`)).status).toBe(404)
  })

  it('is purged with all others that match a filter and have ended, after a count', async () => {
    const [kept, ended] = [
      await submit({ group: 'purged', delay: '1h' }),
      await submit({ group: 'purged', delay: '1h' }),
    ]
    const other = await submit({ group: 'other', delay: '1h' })
    for (const { id } of [ended, other]) expect((await server.call('DELETE', `/tasks/${id}`)).status).toBe(200)
    const counted = await post('/tasks/purge', { group: 'purged', dry_run: true })
    expect(counted).toMatchObject({ status: 200, body: { count: 1, more: false } })
    expect((await get(`/tasks/${ended.id}`)).status).toBe(200)
    expect((await post('/tasks/purge', { group: 'purged', status: 'pending' })).body).toEqual({ count: 0 })
    expect(await post('/tasks/purge', { group: 'purged' })).toMatchObject({ status: 202, body: { count: 1 } })
    expect((await get(`/tasks/${ended.id}`)).status).toBe(404)
    for (const { id } of [kept, other]) expect((await get(`/tasks/${id}`)).status).toBe(200)
  })

  it('has a group, which filters lists and bulk changes', async () => {
    const { id } = await submit({ group: 'Müller & Co' })
    await submit({ group: 'b' })
    await submit()
    expect((await get(`/tasks/${id}`)).body.group).toBe('Müller & Co')
    const query = new URLSearchParams({ group: 'Müller & Co', status: 'pending' })
    expect((await get(`/tasks?${query}`)).body).toMatchObject({ count: 1, tasks: [{ id }] })
    expect((await post('/tasks/cancel', { group: 'b' })).body.count).toBe(1)
    expect((await post('/tasks/retry', { group: 'b', status: 'canceled' })).body.count).toBe(1)
    expect(
      (await get('/tasks?status=pending')).body.tasks.map(({ group }: { group: string | null }) => group),
    ).toContain(null)
    expect((await get('/tasks?group=')).status).toBe(400)
  })

  it('explains why it does not run', async () => {
    const { id } = await submit({ delay: 60 })
    expect((await get(`/tasks/${id}/explain`)).body).toMatchObject({ reason: 'delayed', until: expect.any(String) })
  })
})

describe('a worker over HTTP', () => {
  it('claims, renews and completes a task, whose lease then has ended', async () => {
    const { id } = await submit()
    const { lease } = (await consume({ worker_id: 'py-1' }))[0]!
    expect((await get('/concurrency/plain')).body).toMatchObject({
      in_use: 1,
      holders: [{ task_id: id, worker_id: 'py-1' }],
    })
    expect((await post(`/leases/${lease}/heartbeat`, { progress: 40 })).body).toMatchObject({ cancel_requested: false })
    expect((await get(`/tasks/${id}`)).body.progress).toBe(40)
    expect(await post(`/leases/${lease}/complete`, { result: { ok: 1 } })).toMatchObject({ status: 200 })
    expect((await get(`/tasks/${id}`)).body).toMatchObject({ status: 'success', result: { ok: 1 }, attempts: 1 })
    for (const verb of ['complete', 'heartbeat']) expect((await post(`/leases/${lease}/${verb}`)).status).toBe(410)
    expect((await post(`/leases/${lease}/fail`, { error: 'late' })).status).toBe(410)
  })

  it('fails a task for good or until later, and receives a cancel', async () => {
    const one = await submit()
    await post(`/leases/${(await consume())[0]!.lease}/fail`, { error: 'no', retry: false })
    expect((await get(`/tasks/${one.id}`)).body).toMatchObject({ status: 'failed', error: 'no' })
    const two = await submit()
    const [taken] = await consume()
    expect((await server.call('DELETE', `/tasks/${two.id}`)).status).toBe(202)
    expect((await post(`/leases/${taken!.lease}/heartbeat`)).body).toMatchObject({ cancel_requested: true })
    expect((await post(`/leases/${taken!.lease}/complete`, { result: 1 })).status).toBe(410)
    expect((await get(`/tasks/${two.id}`)).body).toMatchObject({ status: 'canceled', result: null })
  })

  it('waits for a task', async () => {
    const [leases, task] = await Promise.all([consume({ wait: '20s' }), submit()])
    expect(leases[0]!.task.id).toBe(task.id)
    expect((await post('/tasks/consume', { types: ['plain'], wait: 61 })).status).toBe(400)
  })
})

describe('the system', () => {
  it('answers statistics, health, stream, workers, types and handlers', async () => {
    expect((await get('/stats')).body).toMatchObject({ pending_tasks: 0, is_running: true, instance_id: 'i' })
    expect(await get('/health')).toMatchObject({
      status: 200,
      body: { status: 'healthy', version: '1.2.3', engine: 'sqlite' },
    })
    expect((await get('/live')).status).toBe(200)
    expect((await get('/stream')).body.stream_info).toMatchObject({
      length: expect.any(Number),
      consumers: expect.any(Array),
    })
    expect((await get('/workers')).body).toMatchObject({ total_workers: expect.any(Number) })
    expect((await get('/handlers')).body).toEqual({ handlers: ['plain', 'strict'], count: 2 })
    expect((await get('/types')).body.count).toBe(2)
  })

  it('has an uptime that does not shrink when the clock is set back', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 3_600_000 })
    onTestFinished(() => void vi.useRealTimers())
    for (const path of ['/health', '/stats', '/workers']) expect((await get(path)).body.uptime).toBeGreaterThan(0)
  })

  it('serves metrics without task ids, OpenAPI 3.1, the documentation and the dashboard', async () => {
    const { id } = await submit()
    const metrics = (await get('/metrics')).body
    expect(metrics).toContain('xqueue_tasks_pending{type="plain"} 1')
    expect(metrics).not.toContain(id)
    for (const outcome of ['accepted', 'existing', 'refused']) {
      expect(metrics).toMatch(new RegExp(`^xqueue_submissions_total\\{outcome="${outcome}"\\} \\d+$`, 'm'))
    }
    const openapi = (await get('/openapi.json')).body
    expect(openapi.openapi).toBe('3.1.0')
    expect(Object.keys(openapi.paths)).toContain('/api/v1/tasks/batch')
    expect((await get('/docs/')).status).toBe(200)
    const page = await get('/')
    expect(page.headers.get('content-security-policy')).toContain("default-src 'none'")
    expect((await get('/nothing')).body).toMatchObject({ status: 404 })
  })

  it('streams status changes, and resumes after the last received event', async () => {
    const url = `${server.url}/api/v1/events?type=plain`
    const read = async (headers: Record<string, string>, start: () => Promise<unknown>, enough: string) => {
      const stop = new AbortController()
      const { body } = await fetch(url, { headers, signal: stop.signal })
      await start()
      let text = ''
      for await (const chunk of body!.pipeThrough(new TextDecoderStream())) {
        text += chunk
        if (text.includes(enough)) break
      }
      stop.abort()
      return text
    }
    let id = ''
    const live = await read({}, async () => (id = (await submit()).id), '"pending"')
    expect(live).toContain(id)
    const lastId = /id: (\d+)\ndata/.exec(live)![1]!
    const resumed = await read({ 'Last-Event-ID': lastId }, () => server.call('DELETE', `/tasks/${id}`), '"canceled"')
    expect(resumed).not.toContain('"pending"')
  })

  it('streams the statistics of all types with the changes, if requested', async () => {
    const stop = new AbortController()
    const url = `${server.url}/api/v1/events?stats=true`
    const { body } = await fetch(url, { signal: stop.signal })
    const reader = body!.pipeThrough(new TextDecoderStream()).getReader()
    let text = ''
    const next = async (event: string) => {
      const wanted = new RegExp(`event: ${event}\\n(?:id: .*\\n)?data: (.*)\\n\\n`)
      for (;;) {
        const [whole, data] = wanted.exec(text) ?? []
        if (whole) text = text.slice(text.indexOf(whole) + whole.length)
        if (data) return JSON.parse(data)
        text += (await reader.read()).value
      }
    }
    const { types, limits, ...stats } = await next('stats')
    expect(limits).toEqual([])
    // Only the call counts the tasks that could start.
    const asked = { ...(await get('/stats')).body, runnable_tasks: null }
    expect(stats).toMatchObject({ ...asked, uptime: expect.any(Number) })
    expect(types.map(({ type }: { type: string }) => type)).toEqual(['plain', 'strict'])
    const { id } = await submit()
    expect(await next('status')).toMatchObject({ task_id: id })
    expect(await next('stats')).toMatchObject({ pending_tasks: stats.pending_tasks + 1 })
    stop.abort()
  })
})

it('closes although a connection without a request is open', { timeout: 20_000 }, async () => {
  const listening = await serveQueue(queue)
  const socket = connect(listening.port, '127.0.0.1')
  await once(socket, 'connect')
  // Its end of the connection is known to the server by the time a request over another one is answered.
  await listening.get('/live')
  await Promise.all([listening.stop(), once(socket, 'close')])
})

it('checks and completes submissions of types whose handlers only another process has', async () => {
  const bare = await serveQueue(queue)
  const answer = (payload: object) => bare.post('/tasks', payload)
  const refused = await answer({ type: 'strict', payload: { n: 'x' } })
  expect([refused.status, refused.body.errors[0].path]).toEqual([400, 'payload.n'])
  const accepted = await answer({ type: 'strict', payload: { n: 1 } })
  expect(accepted.body).toMatchObject({ max_retry: 7, process_timeout: 5 })
  expect((await answer({ type: 'nobody' })).body).toMatchObject({ code: 'unknown_type' })
})
