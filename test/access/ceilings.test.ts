import { beforeAll, describe, expect, it } from 'vitest'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'
import { type Server, startServer } from '../fixtures/server.ts'

let redis: RunningRedis
beforeAll(async () => {
  redis = await startRedis()
})

const run = () => null
const modest = { processTimeout: '1m', queueTimeout: '5m', maxRetry: 2, run }

describe.each(['SQLite', 'Redis'])('ceilings of types, on %s', (store) => {
  let guarded: Server
  let submitter: string
  let operator: string
  beforeAll(async () => {
    const queue = store === 'Redis' ? { engine: `${redis.url}?prefix=ceilings` } : {}
    guarded = await startServer(
      { auth: 'keys', ...queue },
      { modest, open: { run }, endless: { processTimeout: 0, run } },
    )
    submitter = await guarded.key(['submit', 'read'])
    operator = await guarded.key(['submit', 'read', 'admin'])
  })

  const submit = (key: string, task: object) => guarded.as(key).call('POST', '/tasks', task)
  const setCeilings = (type: string, ceilings: object, key = operator) =>
    guarded.as(key).call('POST', `/types/${type}`, { ceilings })
  const refused = (path: string, ...parts: string[]) => ({
    status: 400,
    body: { errors: [{ path, message: expect.stringMatching(parts.join('.*')) }] },
  })

  it.each([
    ['process_timeout', 0, 'is 0 \\(no limit\\)', '60 s'],
    ['process_timeout', '61s', 'is 61 s', '60 s'],
    ['queue_timeout', '1h', 'is 3600 s', '300 s'],
    ['max_retry', 1_000, 'is 1000', '2'],
  ])('a key that submits cannot overrule its handler: %s %s', async (field, value, said, ceiling) => {
    const answer = await submit(submitter, { type: 'modest', [field]: value })
    expect(answer).toMatchObject(refused(field, said, `ceiling of ${ceiling}`, '/api/v1/types/modest'))
    expect((await submit(operator, { type: 'modest', [field]: value })).status).toBe(201)
  })

  it('a key that submits may use values up to the ceilings of the handler', async () => {
    const most = { process_timeout: 60, queue_timeout: 300, max_retry: 2, priority: 9 }
    expect(await submit(submitter, { type: 'modest', ...most })).toMatchObject({ status: 201, body: most })
  })

  it('a key without admin needs a time-out, unless the handler allows none', async () => {
    expect(await submit(submitter, { type: 'open', process_timeout: 0 })).toMatchObject(refused('process_timeout'))
    expect(await submit(submitter, { type: 'open', process_timeout: '25h' })).toMatchObject(refused('process_timeout'))
    expect((await submit(submitter, { type: 'open', process_timeout: '24h' })).status).toBe(201)
    expect((await submit(submitter, { type: 'endless', process_timeout: 0 })).status).toBe(201)
  })

  it('ceilings of an operator hold for every key, for tasks, batches and schedules, as soon as they are set', async () => {
    const ceilings = { max_retry: 1, priority: 3, process_timeout: '10s', queue_timeout: '20s', payload_bytes: 20 }
    const set = await setCeilings('quick', ceilings)
    const shown = { ...ceilings, process_timeout: 10, queue_timeout: 20 }
    expect(set).toMatchObject({ status: 200, body: { declared: true, ceilings: shown } })
    expect(await submit(operator, { type: 'quick' })).toMatchObject({
      status: 201,
      body: { max_retry: 1, process_timeout: 10, queue_timeout: 20 },
    })
    const above = { max_retry: 2, priority: 4, process_timeout: 11, queue_timeout: 0, payload: 'x'.repeat(19) }
    for (const [field, value] of Object.entries(above)) {
      const task = { type: 'quick', [field]: value }
      expect(await submit(operator, task)).toMatchObject(refused(field, 'above the ceiling'))
      const batch = await guarded.as(operator).call('POST', '/tasks/batch', { tasks: [{ type: 'quick' }, task] })
      expect(batch).toMatchObject(refused(`tasks[1].${field}`))
      const schedule = { id: 'above', every: '1h', ...task }
      expect(await guarded.as(operator).call('POST', '/schedules', schedule)).toMatchObject(refused(field))
    }
    const schedule = { id: 'hourly', type: 'quick', every: '1h' }
    expect((await guarded.as(operator).call('POST', '/schedules', schedule)).status).toBe(201)
    const changed = await guarded.as(operator).call('PATCH', '/schedules/hourly', { max_retry: 2 })
    expect(changed).toMatchObject(refused('max_retry'))
    await setCeilings('quick', { max_retry: null })
    expect((await submit(operator, { type: 'quick', max_retry: 1_000 })).status).toBe(201)
    expect(await submit(operator, { type: 'quick', priority: 4 })).toMatchObject(refused('priority'))
  })

  it('an operator raises the ceiling that a handler sets', async () => {
    await setCeilings('modest', { max_retry: 10 })
    expect((await submit(submitter, { type: 'modest', max_retry: 10 })).status).toBe(201)
    expect(await submit(submitter, { type: 'modest', max_retry: 11 })).toMatchObject(refused('max_retry'))
    await setCeilings('modest', { max_retry: null })
    expect(await submit(submitter, { type: 'modest', max_retry: 10 })).toMatchObject(refused('max_retry'))
  })

  it('a key with bounds changes no ceiling and is subject to those of the handler, also with admin', async () => {
    const tenant = await guarded.key(['submit', 'admin'], { bounds: { types: ['modest'], groups: null } })
    expect((await setCeilings('modest', { max_retry: 10 }, tenant)).body).toMatchObject({ code: 'forbidden' })
    expect(await submit(tenant, { type: 'modest', max_retry: 3 })).toMatchObject(refused('max_retry'))
  })

  it.each([
    { process_timeout: 0 },
    { max_retry: 1_001 },
    { priority: -1 },
    { payload_bytes: 0 },
    { queue_timeout: '400d' },
    { retries: 1 },
  ])('refuses the ceilings %j', async (ceilings) => {
    expect((await setCeilings('open', ceilings)).status).toBe(400)
  })

  it('writes the old and the new ceilings to the audit log', async () => {
    await setCeilings('open', { priority: 7 })
    const all = JSON.stringify(guarded.audits().filter(({ action }) => action === 'POST /api/v1/types/:type'))
    expect(all).toMatch(/"from":.*"priority":null.*"to":.*"priority":7/)
  })
})
