import { beforeAll, describe, expect, it } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { openTestQueue, type QueueServer, serveQueue } from '../fixtures/server.ts'

let queue: Queue
let server: QueueServer

beforeAll(async () => {
  queue = await openTestQueue()
  server = await serveQueue(queue, { handlers: { plain: { run: () => null } } })
})

const get = (path: string) => server.get(path)
const post = (path: string, body?: unknown) => server.post(path, body)
const submit = async (body: object = {}) => (await post('/tasks', { type: 'plain', ...body })).body as { id: string }
const consume = async (more: object = {}) =>
  (await post('/tasks/consume', { types: ['plain'], ...more })).body.leases as { lease: string; task: { id: string } }[]
const complete = ({ lease }: { lease: string }) => post(`/leases/${lease}/complete`, {})

describe('limits by name', () => {
  const put = (name: string, body: unknown) => server.call('PUT', `/limits/${encodeURIComponent(name)}`, body)

  it('are set, listed, shown with their holders and removed', async () => {
    const rate = { max: 100, per: 60 }
    const set = await put('type:plain', { max: 1, rate: { max: 100, per: '1m' } })
    const limit = { name: 'type:plain', max: 1, rate, paused: false, held_until: null, in_use: 0, waiting: 0 }
    expect([set.status, set.body]).toEqual([200, limit])
    expect((await put('group:plain/*', { max: 1 })).body).toMatchObject({ name: 'group:plain/*', max: 1, in_use: null })
    const names = (await get('/limits')).body.limits.map(({ name }: { name: string }) => name)
    expect(names).toEqual(['type:plain', 'group:plain/*'])
    const { id } = await submit({ group: 'a/b c' })
    await submit({ group: 'a/b c' })
    const taken = await consume({ max: 9 })
    expect((await get('/limits/type:plain')).body).toMatchObject({ in_use: 1, waiting: 1, holders: [{ task_id: id }] })
    const ofGroup = await get(`/limits/${encodeURIComponent('group:plain/a/b c')}`)
    expect(ofGroup.body).toMatchObject({ max: 1, in_use: 1, holders: [{ group: 'a/b c' }] })
    expect((await put('type:plain', { rate: null })).body).toMatchObject({ max: 1, rate: null })
    for (const name of ['type:plain', 'group:plain/*']) {
      expect((await server.call('DELETE', `/limits/${encodeURIComponent(name)}`)).body.max).toBeNull()
    }
    expect((await get('/limits')).body).toEqual({ limits: [], count: 0 })
    await Promise.all([...taken, ...(await consume({ max: 9 }))].map(complete))
  })

  it('are held, paused and resumed', async () => {
    const { id } = await submit()
    const before = Date.now()
    const { held_until } = (await post('/limits/type:plain/hold', { for: '1h' })).body
    expect(Date.parse(held_until)).toBeGreaterThanOrEqual(before + 3_600_000)
    expect((await get(`/tasks/${id}/explain`)).body).toMatchObject({ reason: 'held', until: held_until })
    expect(await consume()).toEqual([])
    expect((await post('/limits/type:plain/pause')).body).toMatchObject({ paused: true, held_until })
    expect((await post('/limits/type:plain/resume')).body).toMatchObject({ paused: false, held_until: null })
    const taken = await consume()
    expect(taken).toHaveLength(1)
    await complete(taken[0]!)
    await post('/limits/type:plain/hold', { for: 60 })
    expect((await post('/types/plain/resume')).body.held_until).toBeNull()
  })

  it('are held by a failure, and by an outcome of a turn', async () => {
    await submit()
    const [first] = await consume()
    const failed = await post(`/leases/${first!.lease}/fail`, { error: '429', hold: '1h', retry: false })
    expect(failed.body).toEqual({ status: 'pending' })
    expect((await get('/limits/type:plain')).body.held_until).not.toBeNull()
    await post('/limits/type:plain/hold', { for: 0 })
    const [again] = await consume()
    const turn = await post('/tasks/turn', { outcomes: [{ lease: again!.lease, error: '429', hold: 3_600 }] })
    expect(turn.body.outcomes).toEqual([{ status: 'pending' }])
    expect((await get(`/tasks/${again!.task.id}`)).body).toMatchObject({ attempts: 0, error: '429' })
    await post('/limits/type:plain/resume')
  })

  it.each([
    ['/limits/type:plain/hold', {}, 'for'],
    ['/limits/type:plain/hold', { for: '25h' }, 'for'],
    ['/limits/type:plain/hold', { for: -1 }, 'for'],
    ['/limits/type:plain/hold', { for: 'soon' }, 'for'],
    ['/limits/group%3Aplain%2F*/hold', { for: 1 }, 'name'],
    ['/limits/group%3Aplain%2F*/pause', undefined, 'name'],
    ['/leases/x/fail', { error: 'no', hold: '25h' }, 'hold'],
  ])('POST %s refuses %j', async (path, body, field) => {
    const answer = await post(path, body)
    expect([answer.status, answer.body.errors?.[0]?.path]).toEqual([400, field])
  })

  it.each([
    ['type:plain', {}],
    ['type:plain', { max: 0 }],
    ['type:plain', { max: 1.5 }],
    ['type:plain', { rate: { max: 1 } }],
    ['type:plain', { rate: { max: 1, per: '25h' } }],
    ['type:plain', { weight: 1 }],
    ['group:plain/*', { rate: { max: 1, per: 1 } }],
    ['group:plain/a', { rate: { max: 1, per: 1 } }],
    ['tenant/*/x', { max: 1, weight: 1 }],
    ['a\u0000', { max: 1 }],
    ['gpu', { max: 0 }],
    ['gpu', { max: 1.5 }],
    ['gpu', { rate: { max: 2_000_000, per: 1 } }],
    ['gpu', { rate: { max: 1, per: '25h' } }],
  ])('PUT of %s refuses %j', async (name, body) => {
    expect((await put(name, body)).status).toBe(400)
  })

  it.each(['plain', 'type:', 'type:a/b', 'group:plain', 'group:/a', 'openai', 'type:nope'])(
    'there is no %s',
    async (name) => {
      const answer = await get(`/limits/${encodeURIComponent(name)}`)
      expect([answer.status, answer.body.code]).toEqual([404, 'not_found'])
    },
  )
})
