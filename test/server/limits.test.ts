import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
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

describe('limits', () => {
  it('are set, shown and removed', async () => {
    expect((await post('/concurrency', { task_type: 'plain', max_concurrency: 2 })).body).toEqual({
      task_type: 'plain',
      max_concurrency: 2,
    })
    expect((await get('/concurrency')).body).toMatchObject({ limits: { plain: 2 }, count: 1 })
    await post('/concurrency', { task_type: 'plain', max_concurrency: null })
    expect((await get('/concurrency')).body).toMatchObject({ limits: {}, count: 0 })
  })

  it.each([0, -1, 1.5, '5', true, {}])('refuse %j', async (value) => {
    expect((await post('/concurrency', { task_type: 'plain', max_concurrency: value })).status).toBe(400)
  })

  it('refuse an unknown type and a missing value', async () => {
    expect((await post('/concurrency', { task_type: 'nope', max_concurrency: 1 })).status).toBe(400)
    expect((await post('/concurrency', { task_type: 'plain' })).status).toBe(400)
  })

  it('of groups are set as well, shown with the holders, and removed', async () => {
    const limit = (more: object) => post('/concurrency', { task_type: 'plain', ...more })
    expect((await limit({ group_concurrency: 1 })).body).toEqual({
      task_type: 'plain',
      max_concurrency: null,
      group_concurrency: 1,
    })
    const [first, second] = [await submit({ group: 'a' }), await submit({ group: 'a' })]
    const [taken, ...more] = await consume({ max: 9 })
    expect([taken!.task.id, more]).toEqual([first.id, []])
    const held = { task_id: first.id, group: 'a' }
    const shown = (await get('/concurrency/plain')).body
    expect(shown).toMatchObject({ group_concurrency: 1, rate: null })
    expect(shown.holders).toContainEqual(expect.objectContaining(held))
    expect((await get(`/tasks/${second.id}/explain`)).body).toMatchObject({
      reason: 'group_limit_reached',
      group: 'a',
      holders: [held],
      until: expect.any(String),
    })
    await post(`/leases/${taken!.lease}/complete`)
    expect((await limit({ group_concurrency: null, max_concurrency: null })).body.group_concurrency).toBeNull()
    expect((await post('/concurrency', { task_type: 'nope', group_concurrency: 1 })).status).toBe(400)
    for (const bad of [0, 1.5, '5', {}]) expect((await limit({ group_concurrency: bad })).status).toBe(400)
    expect((await limit({})).body.errors).toContainEqual({ path: 'max_concurrency', message: expect.any(String) })
  })

  it('set what the groups of a type share while they take turns', async () => {
    expect((await get('/concurrency/plain')).body.group_turns).toBe('tasks')
    const set = await post('/concurrency', { task_type: 'plain', group_turns: 'time' })
    expect([set.status, set.body]).toEqual([200, { task_type: 'plain', max_concurrency: null, group_turns: 'time' }])
    expect((await get('/concurrency/plain')).body.group_turns).toBe('time')
    expect((await get('/types')).body.types).toContainEqual(
      expect.objectContaining({ type: 'plain', group_turns: 'time' }),
    )
    for (const bad of ['fair', null, 1]) {
      expect((await post('/concurrency', { task_type: 'plain', group_turns: bad })).status).toBe(400)
    }
    await post('/concurrency', { task_type: 'plain', group_turns: 'tasks' })
  })

  it('of a rate are set, shown and removed', async () => {
    const { status, body } = await post('/types/plain/rate', { max: 1, per: '1h' })
    expect([status, body.rate]).toEqual([200, { max: 1, per: 3_600 }])
    const ofPlain = (await get('/types')).body.types.find(({ type }: { type: string }) => type === 'plain')
    expect(ofPlain).toMatchObject({ rate: { max: 1, per: 3_600 }, group_concurrency: null })
    await submit()
    const { id } = await submit()
    expect(await consume({ max: 9 })).toHaveLength(1)
    const { reason, until } = (await get(`/tasks/${id}/explain`)).body
    expect([reason, Date.parse(until) > Date.now()]).toEqual(['rate_limited', true])
    expect((await post('/types/plain/rate', { max: null })).body.rate).toBeNull()
    expect(await consume({ max: 9 })).toHaveLength(1)
  })

  it.each([
    [{}, 'max'],
    [{ max: 0, per: 1 }, 'max'],
    [{ max: 1_000_001, per: 1 }, 'max'],
    [{ max: '5', per: 1 }, 'max'],
    [{ max: 5 }, 'per'],
    [{ max: 5, per: 0 }, 'per'],
    [{ max: 5, per: 'soon' }, 'per'],
    [{ max: 5, per: '25h' }, 'per'],
    [{ max: null, per: 1 }, 'per'],
    [{ max: 5, per: 1, burst: 3 }, 'burst'],
  ])('refuse the rate %j', async (body, path) => {
    const answer = await post('/types/plain/rate', body)
    expect(answer.status).toBe(400)
    expect(answer.body.errors).toContainEqual({ path, message: expect.any(String) })
  })

  it('refuse a rate for an unknown type', async () => {
    expect((await post('/types/nope/rate', { max: 1, per: 1 })).body).toMatchObject({
      code: 'unknown_type',
      status: 400,
    })
  })

  it('pause and resume a type', async () => {
    expect((await post('/types/plain/pause')).body.paused).toBe(true)
    await submit()
    expect(await consume()).toEqual([])
    expect((await post('/types/plain/resume')).body.paused).toBe(false)
    expect((await post('/types/nope/pause')).status).toBe(404)
  })
})
