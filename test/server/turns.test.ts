import { connect } from 'node:net'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Turn } from '../../src/queue/queue.ts'
import { XQueueError } from '../../src/task/errors.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue, type Server, serveQueue, startServer } from '../fixtures/server.ts'

// biome-ignore lint/suspicious/noExplicitAny: answers, compared field by field
type Body = any

let redis: RunningRedis
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis.stop())

describe.each(['SQLite', 'Redis'])('a turn of a worker over HTTP, on %s', (store) => {
  let guarded: Server
  let worker: string
  let operator: string
  let count = 0

  beforeAll(async () => {
    guarded = await startServer({ auth: 'keys', ...(store === 'Redis' ? { engine: `${redis.url}?prefix=turns` } : {}) })
    worker = await guarded.key(['work'])
    operator = await guarded.key(['admin', 'submit', 'read'])
  })
  afterAll(() => guarded.stop())

  async function turn(body: object, key = worker): Promise<Body> {
    const answer = await guarded.as(key).call('POST', '/tasks/turn', body)
    expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 200 })
    return answer.body
  }
  /** The leases of as many new tasks, of a type of their own. */
  async function leases(tasks: number, more: object = {}): Promise<Body[]> {
    count += 1
    const type = `turn-${count}`
    await guarded.queue.configureType(type, { declared: true })
    const all = { tasks: Array.from({ length: tasks }, (_, payload) => ({ type, payload, ...more })) }
    expect((await guarded.as(operator).call('POST', '/tasks/batch', all)).status).toBe(201)
    const taken = (await turn({ types: [type], max: tasks, worker_id: 'w' })).leases
    expect(taken).toHaveLength(tasks)
    return taken
  }
  const task = async (id: string) => (await guarded.as(operator).call('GET', `/tasks/${id}`)).body

  it('hands out long payloads unchanged, many in one answer', async () => {
    await guarded.queue.configureType('long', { declared: true })
    const payloads = Array.from({ length: 40 }, (_, index) => ({
      index,
      text: 'é"\n\\'.repeat(index * 100),
      payload: 0,
    }))
    const tasks = payloads.map((payload) => ({ type: 'long', payload }))
    expect((await guarded.as(operator).call('POST', '/tasks/batch', { tasks })).status).toBe(201)
    const taken = (await turn({ types: ['long'], max: 25, worker_id: 'w' })).leases
    const consumed = await guarded.as(worker).call('POST', '/tasks/consume', { types: ['long'], max: 25 })
    const leases: Body[] = [...taken, ...consumed.body.leases]
    expect(leases.map(({ task }) => task.payload)).toEqual(payloads)
    expect(leases[39]).toMatchObject({ predecessors: [], task: { type: 'long', status: 'processing', attempts: 0 } })
    const outcomes = leases.map(({ lease }) => ({ lease }))
    expect((await turn({ outcomes })).outcomes).toHaveLength(40)
  })

  it('answers a worker that waits with the leases of its canceled tasks', async () => {
    const [canceled, other] = await leases(2)
    const waiting = turn({ types: [canceled.task.type], max: 0, wait: 20, worker_id: 'w' })
    expect((await guarded.as(operator).call('DELETE', `/tasks/${canceled.task.id}`)).status).toBe(202)
    expect(await waiting).toEqual({ outcomes: [], renewals: [], leases: [], cancel_requested: [canceled.lease] })
    const outcomes = [canceled, other].map(({ lease }) => ({ lease, result: 1 }))
    expect((await turn({ outcomes })).outcomes[1]).toEqual({ status: 'success' })
    expect(await task(canceled.task.id)).toMatchObject({ status: 'canceled' })
  })

  it('settles many leases, renews others and claims tasks, each answered in order', async () => {
    const [won, failed, released, kept] = await leases(4, { max_retry: 0 })
    const { type } = won.task
    const answer = await turn({
      ...{ types: [type], max: 5, worker_id: 'w' },
      outcomes: [
        { lease: won.lease, result: { ok: 1 } },
        { lease: failed.lease, error: 'no such address', retry: false },
        { lease: released.lease, release: true },
      ],
      renewals: [{ lease: kept.lease, progress: { step: 1 } }],
    })
    expect(answer.outcomes).toEqual([{ status: 'success' }, { status: 'failed' }, { status: 'pending' }])
    expect(answer.renewals).toEqual([{ expires_at: expect.stringMatching(/Z$/), cancel_requested: false }])
    expect(answer.leases.map((lease: Body) => lease.task.id)).toEqual([released.task.id])
    expect(await task(won.task.id)).toMatchObject({ status: 'success', result: { ok: 1 }, attempts: 1 })
    expect(await task(failed.task.id)).toMatchObject({ status: 'failed', error: 'no such address' })
    expect(await task(released.task.id)).toMatchObject({ status: 'processing', attempts: 0, deliveries: 2 })
    expect(await task(kept.task.id)).toMatchObject({ status: 'processing', progress: { step: 1 } })
  })

  it('refuses only an invalid outcome, with the reason', async () => {
    const held = await leases(8, { max_retry: 0 })
    const [big, deep, both, long, late, lost, good, huge] = held
    const nested = `${'['.repeat(200)}${']'.repeat(200)}`
    const text = `{"outcomes": [
      {"lease": "${big.lease}", "result": {"id": 9007199254740993}},
      {"lease": "${deep.lease}", "result": ${nested}},
      {"lease": "${both.lease}", "result": 1, "error": "no"},
      {"lease": "${long.lease}", "error": "${'x'.repeat(20_000)}"},
      {"lease": "${late.lease}", "error": "no", "delay": "soon"},
      {"lease": "${lost.lease}0", "result": 1},
      {"lease": "${good.lease}", "result": "good"},
      {"lease": "${huge.lease}", "result": "${'x'.repeat(1024 * 1024)}"}
    ]}`
    const headers = { Authorization: `Bearer ${worker}`, 'Content-Type': 'application/json' }
    const answer = await fetch(`${guarded.url}/api/v1/tasks/turn`, { method: 'POST', headers, body: text })
    const { outcomes } = (await answer.json()) as Body
    expect(outcomes.map(({ problem }: Body) => problem?.status)).toEqual([400, 400, 400, 400, 400, 410, undefined, 413])
    expect(outcomes[0].problem).toMatchObject({ code: 'invalid_request', errors: [{ path: 'result.id' }] })
    expect(outcomes[0].problem.detail).toContain('send it as a string')
    expect(outcomes[1].problem.detail).toContain('nested deeper than')
    expect(outcomes[2].problem.detail).toContain('send one')
    expect(outcomes[3].problem.errors[0].path).toBe('error')
    expect(outcomes[4].problem).toMatchObject({ code: 'invalid_duration', errors: [{ path: 'delay' }] })
    expect(outcomes[5].problem.code).toBe('lease_lost')
    expect(outcomes[6]).toEqual({ status: 'success' })
    const states = await Promise.all(held.map(async (lease) => (await task(lease.task.id)).status))
    expect(states).toEqual([...Array(6).fill('processing'), 'success', 'processing'])
  })

  it('refuses an outcome that says nothing but how to fail or to release, and takes one without a result as null', async () => {
    const [taken] = await leases(1)
    const unclear = [{ release: false }, { retry: false }, { delay: 5 }, { hold: 5 }, { limit: 'gpu' }]
    const { outcomes } = await turn({ outcomes: unclear.map((options) => ({ lease: taken.lease, ...options })) })
    for (const { problem } of outcomes) expect(problem).toMatchObject({ status: 400, code: 'invalid_request' })
    expect((await turn({ outcomes: [{ lease: taken.lease }] })).outcomes).toEqual([{ status: 'success' }])
    expect(await task(taken.task.id)).toMatchObject({ status: 'success', result: null })
  })

  it('takes a result of 1 MiB, as a single call does, and refuses a longer one', async () => {
    const [one, other, long] = await leases(3)
    const result = 'x'.repeat(1024 * 1024 - 2)
    expect((await turn({ outcomes: [{ lease: one.lease, result }] })).outcomes).toEqual([{ status: 'success' }])
    const complete = ({ lease }: Body, value: string) =>
      guarded.as(worker).call('POST', `/leases/${lease}/complete`, { result: value })
    expect(await complete(long, `${result}x`)).toMatchObject({ status: 413, body: { code: 'too_large' } })
    expect(await complete(other, result)).toMatchObject({ status: 200, body: { status: 'success' } })
  })

  it('settles a lease once, also when one call reports it twice', async () => {
    const [taken] = await leases(1)
    const outcomes = [1, 2].map((result) => ({ lease: taken.lease, result }))
    const answer = await turn({ outcomes })
    expect(answer.outcomes.map(({ status, problem }: Body) => status ?? problem.code)).toEqual([
      'success',
      'lease_lost',
    ])
    expect(await task(taken.task.id)).toMatchObject({ result: 1, attempts: 1 })
  })

  it('renews a lease although its progress is invalid, and reports a cancel and a loss', async () => {
    const [odd, canceled, ended] = await leases(3)
    expect((await guarded.as(operator).call('DELETE', `/tasks/${canceled.task.id}`)).status).toBe(202)
    await turn({ outcomes: [{ lease: ended.lease }] })
    const { renewals } = await turn({
      renewals: [{ lease: odd.lease, progress: 'half' }, { lease: canceled.lease }, { lease: ended.lease }],
    })
    expect(renewals).toMatchObject([
      { cancel_requested: false, problem: { errors: [{ path: 'progress' }] } },
      { cancel_requested: true },
      { problem: { status: 410, code: 'lease_lost' } },
    ])
    expect(Date.parse(renewals[0].expires_at)).toBeGreaterThan(Date.now())
  })

  it('waits for a task if it has nothing to report, and answers reports at once', async () => {
    const [taken] = await leases(1)
    const { type } = taken.task
    const claim = { types: [type], max: 1, wait: '20s', worker_id: 'w' }
    const waiting = turn(claim)
    expect((await turn({ ...claim, outcomes: [{ lease: taken.lease }] })).leases).toEqual([])
    const { body } = await guarded.as(operator).call('POST', '/tasks', { type })
    expect((await waiting).leases[0].task.id).toBe(body.id)
    expect((await guarded.as(worker).call('POST', '/tasks/turn', { types: [type], max: 1, wait: 61 })).status).toBe(400)
  })

  it('releases the tasks that it has claimed for a disconnected worker', async () => {
    const [taken] = await leases(1)
    const { type } = taken.task
    await turn({ outcomes: [{ lease: taken.lease }] })
    const gone = new AbortController()
    const headers = { Authorization: `Bearer ${worker}`, 'Content-Type': 'application/json' }
    const body = JSON.stringify({ types: [type], max: 1, wait: '20s', worker_id: 'gone' })
    const waiting = fetch(`${guarded.url}/api/v1/tasks/turn`, { method: 'POST', headers, body, signal: gone.signal })
    await vi.waitFor(async () => {
      const { workers } = (await guarded.as(operator).call('GET', '/workers')).body
      expect(workers.some(({ id }: Body) => id.endsWith('/gone'))).toBe(true)
    })
    gone.abort()
    await expect(waiting).rejects.toThrow()
    const { id } = (await guarded.as(operator).call('POST', '/tasks', { type })).body
    await vi.waitFor(async () =>
      expect((await turn({ types: [type], max: 1, wait: '1s' })).leases[0]?.task.id).toBe(id),
    )
    expect(await task(id)).toMatchObject({ attempts: 0, worker_id: expect.not.stringContaining('gone') })
  })

  /** Lets the store change nothing until the returned function is called. */
  function blockStore(): () => void {
    if (store === 'Redis') {
      redisCli(redis.port, 'CLIENT', 'PAUSE', '60000', 'WRITE')
      return () => redisCli(redis.port, 'CLIENT', 'UNPAUSE')
    }
    const lock = new DatabaseSync(guarded.queue.url.slice('sqlite:'.length))
    lock.exec('BEGIN IMMEDIATE')
    return () => lock.close()
  }

  it('releases the tasks that it claims with outcomes for a worker that has disconnected meanwhile', async () => {
    const [taken] = await leases(1)
    const { type } = taken.task
    const { id } = (await guarded.as(operator).call('POST', '/tasks', { type })).body
    // The server knows the worker's key for a moment, and need not ask the store that is blocked.
    await turn({ renewals: [{ lease: taken.lease }] })
    const unblock = blockStore()
    const socket = connect(Number(new URL(guarded.url).port), '127.0.0.1')
    socket.on('error', () => undefined).resume()
    const body = JSON.stringify({ outcomes: [{ lease: taken.lease }], types: [type], max: 1, worker_id: 'gone' })
    const head = ['POST /api/v1/tasks/turn HTTP/1.1', 'Host: x', `Authorization: Bearer ${worker}`]
    const rest = ['Content-Type: application/json', `Content-Length: ${body.length}`]
    const call = `${[...head, ...rest].join('\r\n')}\r\n\r\n${body}`
    // What is not sent yet would never arrive.
    await new Promise((sent) => socket.once('connect', () => socket.write(call, sent)))
    // The server is in this process: it has read the call by then, and noticed the end of the connection.
    await sleep(100)
    socket.resetAndDestroy()
    await sleep(100)
    unblock()
    await vi.waitFor(async () => expect((await task(taken.task.id)).status).toBe('success'))
    const next = (await turn({ types: [type], max: 1, wait: '20s' })).leases
    expect(next[0]?.task).toMatchObject({ id, attempts: 0 })
  })

  it('bounds its lists, and its answer in bytes', async () => {
    const many = Array.from({ length: 1_001 }, () => ({ lease: 'none' }))
    const refused = await guarded.as(worker).call('POST', '/tasks/turn', { outcomes: many })
    expect([refused.status, refused.body.errors[0].path]).toEqual([400, 'outcomes'])
    const [first] = await leases(1)
    const { type } = first.task
    const tasks = Array.from({ length: 55 }, () => ({ type, payload: 'x'.repeat(200_000) }))
    for (let batch = 0; batch < 2; batch++) await guarded.as(operator).call('POST', '/tasks/batch', { tasks })
    // One step took small tasks before, so it may bring 64; the steps after it bring 16, until they have 8 MiB.
    const sizes = []
    for (let taken = 0; taken < 110; taken += sizes.at(-1)!) {
      sizes.push((await turn({ types: [type], max: 1_000 })).leases.length)
    }
    expect(sizes).toEqual([64, 46])
    expect((await turn({ types: [type], max: 1_000, outcomes: [{ lease: first.lease }] })).leases).toEqual([])
  })

  it('takes a worker that leaves off the list, and keeps its lease until it is settled', async () => {
    const [taken] = await leases(1)
    const { type } = taken.task
    const leaver = { types: [type], worker_id: 'leaver' }
    const listed = async () =>
      (await guarded.as(operator).call('GET', '/workers')).body.workers.filter(({ id }: Body) => id.endsWith('/leaver'))
    await turn(leaver)
    expect(await listed()).toHaveLength(1)
    const greedy = await guarded.as(worker).call('POST', '/tasks/turn', { ...leaver, leaving: true, max: 1 })
    expect(greedy).toMatchObject({ status: 400, body: { errors: [{ path: 'max' }] } })
    expect(await listed()).toHaveLength(1)
    const unnamed = await guarded.as(worker).call('POST', '/tasks/turn', { types: [type], leaving: true })
    expect(unnamed).toMatchObject({ status: 400, body: { errors: [{ path: 'worker_id' }] } })
    expect(await turn({ ...leaver, leaving: true, wait: 60 })).toEqual({ outcomes: [], renewals: [], leases: [] })
    expect(await listed()).toEqual([])
    expect((await turn({ outcomes: [{ lease: taken.lease }] })).outcomes).toEqual([{ status: 'success' }])
  })

  it('bounds the name of a worker like other names, in each call that takes it', async () => {
    const call = (path: string, worker_id: unknown) =>
      guarded.as(operator).call('POST', path, { types: ['bounded-names'], worker_id })
    for (const path of ['/tasks/turn', '/tasks/consume']) {
      for (const name of ['a\nb', '\u0000', 'a\u007f', '\u0085', '\u001b[31mred', '', 'x'.repeat(101)]) {
        const { status, body } = await call(path, name)
        expect([path, name, status, body.errors?.[0].path]).toEqual([path, name, 400, 'worker_id'])
      }
      const names = ['host.example-4242', 'Anna\u2019s Mac/7', 'wörker 😀', crypto.randomUUID(), 'x'.repeat(100)]
      for (const name of names) expect([name, (await call(path, name)).status]).toEqual([name, 200])
    }
    expect((await call('/tasks/turn', 'a\nb')).body.detail).toBe('body: worker_id must not contain control characters')
  })

  it('does not show or end the leases of a key with other bounds', async () => {
    const [taken] = await leases(1)
    const { type } = taken.task
    const other = await guarded.key(['work'], { bounds: { types: ['elsewhere'], groups: null } })
    const { lease } = taken
    const answer = await turn({ outcomes: [{ lease, result: 1 }], renewals: [{ lease }] }, other)
    expect(answer).toMatchObject({ outcomes: [{ problem: { status: 410 } }], renewals: [{ problem: { status: 410 } }] })
    expect((await guarded.as(other).call('POST', '/tasks/turn', { types: [type], max: 1 })).body.code).toBe(
      'unknown_type',
    )
    expect(await task(taken.task.id)).toMatchObject({ status: 'processing' })
    expect((await guarded.as(operator).call('POST', '/tasks/turn', { max: 1 })).status).toBe(200)
    const reader = await guarded.key(['read'])
    expect((await guarded.as(reader).call('POST', '/tasks/turn', { max: 1 })).status).toBe(403)
  })
})

it('answers with the tasks that a call has taken before the store failed', async () => {
  const queue = await openTestQueue()
  let claims = 0
  const failing = new Proxy(queue, {
    get(target, name) {
      const method = Reflect.get(target, name, target)
      if (name !== 'turn') return typeof method === 'function' ? method.bind(target) : method
      return async (turn: Turn) => {
        if (turn.want > 0 && ++claims % 2 === 0) throw new XQueueError('engine_unavailable', 'no answer')
        return target.turn(turn)
      }
    },
  })
  const server = await serveQueue(failing)
  await queue.configureType('t', { declared: true })
  await queue.submit(Array.from({ length: 200 }, () => completeSpec({ type: 't' })))
  const consumed = await server.call('POST', '/tasks/consume', { types: ['t'], max: 80 })
  const renewals = [{ lease: consumed.body.leases[0].lease }]
  const turned = await server.call('POST', '/tasks/turn', { types: ['t'], max: 80, renewals })
  const took = [consumed, turned].map(({ status, body }) => [status, body.leases.length])
  expect(took.every(([status, count]) => status === 200 && count! > 0 && count! < 80)).toBe(true)
  const { tasks } = await queue.list({ status: 'processing', limit: 200 })
  expect(tasks.length).toBe(took.reduce((sum, [, count]) => sum + count!, 0))
})
