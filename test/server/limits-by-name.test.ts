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
    expect((await put('group:plain/b', { max: 7 })).body).toMatchObject({ max: 7, in_use: 0 })
    const { limits } = (await get('/limits')).body
    expect(limits).toMatchObject([
      { name: 'type:plain' },
      { name: 'group:plain/*' },
      { name: 'group:plain/b', max: 7, in_use: null, waiting: null },
    ])
    const { id } = await submit({ group: 'a/b c' })
    await submit({ group: 'a/b c' })
    const taken = await consume({ max: 9 })
    expect((await get('/limits/type:plain')).body).toMatchObject({ in_use: 1, waiting: 1, holders: [{ task_id: id }] })
    const ofGroup = await get(`/limits/${encodeURIComponent('group:plain/a/b c')}`)
    expect(ofGroup.body).toMatchObject({ max: 1, in_use: 1, holders: [{ group: 'a/b c' }] })
    expect((await put('type:plain', { rate: null })).body).toMatchObject({ max: 1, rate: null })
    for (const name of ['type:plain', 'group:plain/*', 'group:plain/b']) {
      expect((await server.call('DELETE', `/limits/${encodeURIComponent(name)}`)).body.max).toBeNull()
    }
    expect((await get('/limits')).body).toEqual({ limits: [], count: 0 })
    await Promise.all([...taken, ...(await consume({ max: 9 }))].map(complete))
  })

  async function streamOf(query: string) {
    const stop = new AbortController()
    const { body } = await fetch(`${server.url}/api/v1/events?${query}`, { signal: stop.signal })
    return { reader: body!.pipeThrough(new TextDecoderStream()).getReader(), stop }
  }

  it('do not arrive on an event stream that asks for statistics only', async () => {
    await put('type:plain', { max: 3 })
    const { reader, stop } = await streamOf('stats=true')
    let text = ''
    while ((text.match(/event: stats/g)?.length ?? 0) < 2) text += (await reader.read()).value
    expect(text).not.toContain('event: limit')
    stop.abort()
  })

  it('arrive on an event stream that asks for them: all at first, then each change', async () => {
    await put('type:plain', { max: 3 })
    const { reader, stop } = await streamOf('limits=true')
    let text = ''
    const until = async (state: object) => {
      const event = `event: limit\ndata: ${JSON.stringify(state)}\n\n`
      while (!text.includes(event)) text += (await reader.read()).value
    }
    const free = { paused: false, held_until: null }
    await until({ name: 'type:plain', max: 3, rate: null, ...free })
    await put('gpu/*', { max: 2, rate: { max: 9, per: 60 } })
    await until({ name: 'gpu/*', max: 2, rate: { max: 9, per: 60 }, ...free })
    const { held_until } = (await post('/limits/type:plain/hold', { for: '1h' })).body
    await until({ name: 'type:plain', max: 3, rate: null, paused: false, held_until })
    await server.call('DELETE', `/limits/${encodeURIComponent('gpu/*')}`)
    await until({ name: 'gpu/*', removed: true })
    expect(text.match(/event: limit/g)).toHaveLength(4)
    stop.abort()
    await post('/limits/type:plain/resume')
    await put('type:plain', { max: null })
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
    const held = (hold: number) => post('/tasks/turn', { outcomes: [{ lease: again!.lease, error: '429', hold }] })
    expect((await held(0)).body.outcomes[0].problem).toMatchObject({ status: 400, errors: [{ path: 'hold' }] })
    const turn = await held(3_600)
    expect(turn.body.outcomes).toEqual([{ status: 'pending' }])
    expect((await get(`/tasks/${again!.task.id}`)).body).toMatchObject({ attempts: 0, error: '429' })
    await post('/limits/type:plain/resume')
  })

  it('are created by name, used by tasks, and name their holders and the tasks that wait', async () => {
    // Of the tests before.
    await Promise.all((await consume({ max: 9 })).map(complete))
    expect((await get('/limits/gpu')).status).toBe(404)
    const none = { paused: false, held_until: null, rate: null, in_use: 0, waiting: 0 }
    expect((await put('gpu', { max: 2 })).body).toEqual({ name: 'gpu', max: 2, ...none })
    const { id } = await submit({ uses: { gpu: 2 } })
    const second = await submit({ uses: { gpu: 1 } })
    const [lease, ...others] = await consume({ max: 9 })
    expect([lease!.task.id, others]).toEqual([id, []])
    const { body } = await get('/limits/gpu')
    expect(body).toMatchObject({ in_use: 2, waiting: 1, waiters: [second.id] })
    expect(body.holders).toMatchObject([{ task_id: id, type: 'plain', units: 2, group: null }])
    expect((await get('/limits')).body.limits).toContainEqual({ name: 'gpu', max: 2, ...none, in_use: 2, waiting: 1 })
    const why = (await get(`/tasks/${second.id}/explain`)).body
    expect(why).toMatchObject({ reason: 'limit_reached', holders: [{ task_id: id }] })
    expect(why.limits).toMatchObject([
      { name: 'gpu', reason: 'limit_reached', needs: 1, max: 2, in_use: 2, holders: [{ task_id: id }] },
    ])
    const refused = await server.call('DELETE', '/limits/gpu')
    expect([refused.status, refused.body.code]).toEqual([409, 'limit_in_use'])
    await complete(lease!)
    const [next] = await consume()
    await complete(next!)
    expect((await server.call('DELETE', '/limits/gpu')).body).toMatchObject({ name: 'gpu', max: null })
    expect((await get('/limits/gpu')).status).toBe(404)
  })

  it('are held, paused and resumed by name, also for one key', async () => {
    const key = encodeURIComponent('tenant/ä c')
    await put('tenant/*', { max: 3 })
    expect((await get(`/limits/${key}`)).body).toMatchObject({ name: 'tenant/ä c', max: 3, in_use: 0 })
    const { id } = await submit({ uses: { 'tenant/ä c': 1 } })
    const { held_until } = (await post(`/limits/${key}/hold`, { for: '1h' })).body
    expect((await get(`/tasks/${id}/explain`)).body).toMatchObject({ reason: 'held', until: held_until })
    expect((await post(`/limits/${key}/resume`)).body).toMatchObject({ held_until: null, paused: false })
    expect((await post(`/limits/${key}/pause`)).body).toMatchObject({ paused: true, max: 3 })
    expect(await consume()).toEqual([])
    await post(`/limits/${key}/resume`)
    const [lease] = await consume()
    await complete(lease!)
    expect((await post('/limits/unknown/pause')).status).toBe(404)
  })

  it('are refused in a submission with the path of each', async () => {
    await put('gpu', { max: 2 })
    const bad = [{ gpu: 0 }, { gpu: 1.5 }, { gpu: 3 }, { cpu: 1 }, { 'type:plain': 1 }, { 'tenant/*': 1 }, [], 'gpu']
    for (const uses of bad) {
      const { status, body } = await post('/tasks', { type: 'plain', uses })
      expect([status, body.errors[0].path]).toEqual([400, expect.stringMatching(/^uses/)])
    }
    const tasks = [{ type: 'plain' }, { type: 'plain', uses: { cpu: 1 } }]
    const { body } = await post('/tasks/batch', { tasks })
    expect(body).toMatchObject({ code: 'unknown_limit', errors: [{ path: 'tasks[1].uses.cpu' }] })
  })

  it('are corrected by a usage that is valid; another one is a problem of its own outcome', async () => {
    await put('tokens', { rate: { max: 10, per: '1h' } })
    for (let index = 0; index < 3; index++) await submit({ uses: { tokens: 6 } })
    const [first] = await consume()
    expect((await post(`/leases/${first!.lease}/complete`, { usage: { tokens: -1 } })).status).toBe(400)
    expect((await post(`/leases/${first!.lease}/complete`, { usage: { tokens: 1 } })).status).toBe(200)
    const [second] = await consume()
    const turn = (usage: unknown) => post('/tasks/turn', { outcomes: [{ lease: second!.lease, error: 'no', usage }] })
    expect((await turn({ tokens: 'many' })).body.outcomes[0].problem.detail).toMatch(/^usage\.tokens is "many"/)
    expect((await turn({ tokens: 2 })).body.outcomes).toEqual([{ status: 'pending' }])
    const [third] = await consume()
    await complete(third!)
  })

  it.each([
    ['/limits/type:plain/hold', {}, 'for'],
    ['/limits/type:plain/hold', { for: '25h' }, 'for'],
    ['/limits/type:plain/hold', { for: -1 }, 'for'],
    ['/limits/type:plain/hold', { for: 'soon' }, 'for'],
    ['/limits/group%3Aplain%2F*/hold', { for: 1 }, 'name'],
    ['/limits/group%3Aplain%2F*/pause', undefined, 'name'],
    ['/leases/x/fail', { error: 'no', hold: '25h' }, 'hold'],
    ['/leases/x/fail', { error: 'no', hold: 0 }, 'hold'],
    ['/leases/x/fail', { error: 'no', hold: '0s' }, 'hold'],
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

  it.each(['plain', 'openai', 'type:nope'])('there is no %s', async (name) => {
    const answer = await get(`/limits/${encodeURIComponent(name)}`)
    expect([answer.status, answer.body.code]).toEqual([404, 'not_found'])
  })

  it.each(['type:', 'type:a/b', 'group:plain', 'group:/a'])('%s is no name of a limit', async (name) => {
    const answer = await get(`/limits/${encodeURIComponent(name)}`)
    expect([answer.status, answer.body.code]).toEqual([400, 'invalid_request'])
  })
})
