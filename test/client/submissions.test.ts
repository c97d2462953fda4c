import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { type Client, createClient } from '../../src/client/client.ts'
import { XQueueError } from '../../src/task/errors.ts'
import type { Handlers } from '../../src/worker/handler.ts'
import { HttpProxy } from '../fixtures/http-proxy.ts'
import { type Program, startProgram } from '../fixtures/program.ts'
import { root } from '../fixtures/root.ts'

let server: Program
let proxy: HttpProxy
let client: Client<Handlers>

beforeAll(async () => {
  server = await startProgram({ handlers: join(root, 'handlers/index.ts') })
})
afterAll(() => server.stop())
beforeEach(async () => {
  proxy = await HttpProxy.start(server.url)
  client = createClient<Handlers>(proxy.url)
})
afterEach(() => proxy.stop())

const submitMany = (count: number) =>
  Promise.all(Array.from({ length: count }, (_, index) => client.submit('example', { duration: index }, { delay: 60 })))

it('share a call if they are made at the same time, and each receives its own full task', async () => {
  const tasks = await submitMany(100)
  expect(tasks.map(({ payload }) => payload)).toEqual(tasks.map((_, index) => ({ duration: index })))
  for (const { id, payload, createdAt } of tasks) {
    expect((await client.get(id)).payload).toEqual(payload)
    expect(createdAt).toEqual(expect.any(Date))
  }
  expect(proxy.calls.filter(({ path }) => path.endsWith('/batch')).length).toBeGreaterThan(0)
  expect(proxy.calls.filter(({ path }) => /tasks(\/batch)?$/.test(path)).length).toBeLessThan(20)
})

it('go alone if they are long, and receive their own tasks', async () => {
  const submit = (text: string) => client.submit('example', { duration: 0, text }, { delay: 60 })
  const tasks = await Promise.all(['first', 'x'.repeat(70_000), 'last'].map(submit))
  expect(new Set(tasks.map(({ id }) => id)).size).toBe(3)
  expect(proxy.calls.map(({ path }) => path)).toEqual(Array(3).fill('/api/v1/tasks'))
})

it('are sent one by one if they are made one after another', async () => {
  for (let index = 0; index < 3; index++) await client.submit('example', { duration: index }, { delay: 60 })
  expect(proxy.calls.map(({ path }) => path)).toEqual(Array(3).fill('/api/v1/tasks'))
})

it('receive their own errors, and the others are accepted', async () => {
  const key = `key-${Math.random()}`
  const keyed = (duration: number) => client.submit('example', { duration }, { delay: 60, idempotencyKey: key })
  const earlier = await keyed(1)
  const submits = await Promise.allSettled([
    client.submit('example', { duration: 0 }, { delay: 60 }),
    client.submit('none', {}),
    keyed(1),
    keyed(1),
    keyed(2),
    client.submit('example', { duration: 3 }, { priority: 11 }),
    client.submit('example', { duration: 4 }, { after: [0] }),
    client.submit('example', { duration: 5 }, { delay: 60 }),
  ])
  const codes = submits.map((one) => (one.status === 'rejected' ? (one.reason as XQueueError).code : 'accepted'))
  expect(codes.slice(0, 5)).toEqual(['accepted', 'unknown_type', 'accepted', 'accepted', 'idempotency_conflict'])
  expect(codes.slice(5)).toEqual(['invalid_request', 'invalid_request', 'accepted'])
  const ids = submits.map((one) => (one.status === 'fulfilled' ? one.value.id : null))
  expect(ids.slice(2, 4)).toEqual([earlier.id, earlier.id])
  const refusal = (submits[5] as PromiseRejectedResult).reason as XQueueError
  expect(refusal.details.errors).toEqual([{ path: 'priority', message: expect.any(String) }])
})

it('with the same key at the same time create one task', async () => {
  const submits = Array.from({ length: 20 }, () =>
    client.submit('example', { duration: 1 }, { delay: 60, idempotencyKey: 'same' }),
  )
  expect(new Set((await Promise.all(submits)).map(({ id }) => id)).size).toBe(1)
})

it('repeat a shared call whose answer is lost only if each of its tasks has a key', async () => {
  const submitAll = async (...keys: (string | undefined)[]) => {
    proxy.calls.length = 0
    const loses = () => proxy.calls.filter(({ path }) => path.endsWith('/batch')).length === 1
    proxy.handle = (call) => (call.path.endsWith('/batch') && loses() ? call.lose('answer') : call.forward())
    const one = (idempotencyKey?: string) =>
      client.submit('example', { duration: 1 }, { delay: 60, ...(idempotencyKey && { idempotencyKey }) })
    const submits = await Promise.allSettled(keys.map(one))
    const bodies = proxy.calls.filter(({ path }) => path.endsWith('/batch')).map(({ body }) => body)
    return { submits: submits.slice(1).map(({ status }) => status), calls: bodies.length }
  }
  const key = (name: string) => `${name}-${Math.random()}`
  const keyed = await submitAll(key('a'), key('b'), key('c'))
  expect(keyed).toEqual({ submits: ['fulfilled', 'fulfilled'], calls: 2 })
  expect(await submitAll(key('a'), key('b'), undefined)).toEqual({ submits: ['rejected', 'rejected'], calls: 1 })
})

it('are not delayed by a call without an answer', async () => {
  proxy.handle = (call) => {
    if (!call.body.includes('"duration":0')) call.forward()
  }
  const stuck = client.submit('example', { duration: 0 }, { delay: 60 })
  const [, ...others] = await Promise.all([null, client.submit('example', { duration: 1 }, { delay: 60 })])
  expect(others).toHaveLength(1)
  proxy.stop()
  await expect(stuck).rejects.toThrow(XQueueError)
})

it('read their tasks from a server that answers shared calls with ids only', async () => {
  proxy.handle = (call) => {
    delete call.headers.prefer
    call.forward()
  }
  const tasks = await submitMany(10)
  expect(tasks.map(({ payload }) => payload)).toEqual(tasks.map((_, index) => ({ duration: index })))
  const before = proxy.calls.length
  await submitMany(10)
  expect(proxy.calls.slice(before).every(({ path }) => path === '/api/v1/tasks')).toBe(true)
})

it('return only id and status if the caller prefers it', async () => {
  const post = async (prefer: string, path = '', body: object = { type: 'example', delay: 60 }) => {
    const headers = { 'Content-Type': 'application/json', Prefer: prefer }
    const answer = await fetch(`${server.url}/api/v1/tasks${path}`, {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
    })
    return { applied: answer.headers.get('preference-applied'), body: (await answer.json()) as object }
  }
  const minimal = await post('respond-async, return=minimal')
  expect(minimal).toEqual({ applied: 'return=minimal', body: { id: expect.any(String), status: 'pending' } })
  expect((await post('return="minimal"')).applied).toBe('return=minimal')
  for (const other of ['return=representation', 'returns=minimal', 'return=minimalist']) {
    expect(await post(other)).toMatchObject({ applied: null, body: { type: 'example' } })
  }
  const tasks = [{ type: 'example', delay: 60 }]
  const whole = await post('return=representation', '/batch', { tasks })
  expect(whole).toMatchObject({ applied: 'return=representation', body: { tasks: [{ type: 'example' }], count: 1 } })
  expect((await post('return=minimal', '/batch', { tasks })).applied).toBe(null)
})
