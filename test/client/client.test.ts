import { beforeAll, expect, expectTypeOf, it } from 'vitest'
import { z } from 'zod'
import * as publicSurface from '../../src/index.ts'
import { createClient, DoNotRetry, defineHandlers, TaskUnsuccessful } from '../../src/index.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const handlers = defineHandlers({
  greet: {
    payload: z.object({ name: z.string(), times: z.number().default(2) }),
    run: async (task, { progress }) => {
      progress(50)
      return { greeting: `hello ${task.payload.name}`.repeat(task.payload.times) }
    },
  },
  refuse: {
    run: async () => {
      throw new DoNotRetry('never')
    },
  },
  hang: {
    run: (_task, { signal }) =>
      new Promise<number>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  },
})
let server: Server
const client = () => createClient<typeof handlers>(server.url)

beforeAll(async () => {
  server = await startServer({}, handlers)
})

it('names the values of a payload that JSON cannot represent or would change', async () => {
  const anyone = createClient(server.url)
  for (const [n, message] of [
    [1n, /^payload\.n is a BigInt.*as a string/],
    ['cut \ud83d', /^payload\.n contains an unpaired surrogate/],
    [new Map([[1, 2]]), /^payload\.n is a Map, which JSON writes as \{\}: give Object\.fromEntries/],
  ] as const) {
    await expect(anyone.submit('greet', { n } as never)).rejects.toMatchObject({ code: 'invalid_request', message })
  }
})

it('submits with the types of the handlers and returns their results', async () => {
  const task = await client().submit(
    'greet',
    { name: 'ann' },
    { priority: 3, tags: { order: '7' }, delay: '10ms', group: 'acme' },
  )
  expect(task).toMatchObject({
    type: 'greet',
    priority: 3,
    tags: { order: '7' },
    maxRetry: 3,
    queueTimeout: 600,
    group: 'acme',
  })
  expect(task.createdAt).toBeInstanceOf(Date)
  const result = await client().result(task)
  expectTypeOf(result).toEqualTypeOf<{ greeting: string }>()
  expect(result).toEqual({ greeting: 'hello annhello ann' })
  // @ts-expect-error the payload is checked by the compiler as well
  await expect(client().submit('greet', { name: 5 })).rejects.toMatchObject({ code: 'invalid_payload' })
  // @ts-expect-error and so is the type
  await expect(client().submit('nope', {})).rejects.toMatchObject({ code: 'unknown_type' })
})

it('returns the result of a task that ended before the call', async () => {
  const { id } = await client().submit('greet', { name: 'bob', times: 1 })
  await client().result(id)
  expect(await client().result<'greet'>(id)).toEqual({ greeting: 'hello bob' })
})

it('throws an error with the task if the task did not succeed', async () => {
  const task = await client().submit('refuse', {})
  const error = await client()
    .result(task)
    .catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(TaskUnsuccessful)
  expect((error as TaskUnsuccessful).task).toMatchObject({ id: task.id, status: 'failed', attempts: 1 })
})

it('stops waiting when its signal fires, and does not cancel the task', async () => {
  const task = await client().submit('hang', {})
  const stop = new AbortController()
  const waiting = client().result(task, { signal: stop.signal })
  stop.abort(new Error('enough'))
  await expect(waiting).rejects.toThrow('enough')
  const waitingAgain = client().result(task)
  await client().cancel(task.id)
  await expect(waitingAgain).rejects.toMatchObject({ task: { status: 'canceled' } })
  // Its worker may have started it again by the time of the answer.
  const retried = await client().retry(task.id)
  expect(retried.attempts).toBe(0)
  expect(['pending', 'processing']).toContain(retried.status)
  await client().cancel(task.id)
})

it('submits many tasks, all or none', async () => {
  const tasks = [1, 2, 3].map((times) => ({ type: 'greet' as const, payload: { name: 'eve', times } }))
  const ids = await client().submitMany(tasks)
  const results = await Promise.all(ids.map((id) => client().result<'greet'>(id)))
  expect(results.map(({ greeting }) => greeting.length)).toEqual([9, 18, 27])
  const bad = [...tasks, { type: 'greet' as const, payload: { name: 'eve', times: 'x' as never } }]
  await expect(client().submitMany(bad)).rejects.toMatchObject({
    details: { errors: [{ path: 'tasks[3].payload.times' }] },
  })
})

it('submits one task for the same idempotency key', async () => {
  const options = { idempotencyKey: 'once' }
  const [first, second] = [await client().submit('refuse', {}, options), await client().submit('refuse', {}, options)]
  expect(second.id).toBe(first.id)
  await expect(client().submit('refuse', { other: 1 }, options)).rejects.toMatchObject({ code: 'idempotency_conflict' })
})

it('receives changes as they happen', async () => {
  const stop = new AbortController()
  const seen: string[] = []
  const following = (async () => {
    for await (const change of client().changes({ type: 'greet' }, stop.signal)) {
      seen.push(change.status)
      if (change.status === 'success') stop.abort()
    }
  })()
  // Submits until the stream is open: earlier changes are not received.
  while (!stop.signal.aborted) await client().result(await client().submit('greet', { name: 'kim' }))
  await following
  expect(seen.at(-1)).toBe('success')
})

it('receives changes whose text has line separators of JavaScript', async () => {
  const stop = new AbortController()
  const seen: unknown[] = []
  const name = 'a\u2028b\u2029c\u0085d'
  const following = (async () => {
    for await (const change of client().changes({ type: 'greet', status: 'success' }, stop.signal)) {
      seen.push(change.result)
      stop.abort()
    }
  })()
  while (!stop.signal.aborted) await client().result(await client().submit('greet', { name, times: 1 }))
  await following
  expect(seen).toEqual([{ greeting: `hello ${name}` }])
})

it('reports that a server cannot be reached', async () => {
  const nobody = createClient<typeof handlers>('http://127.0.0.1:9')
  await expect(nobody.submit('hang', {})).rejects.toMatchObject({ code: 'engine_unavailable' })
  await expect(nobody.changes().next()).rejects.toMatchObject({ code: 'engine_unavailable' })
})

it('exports only the public names', () => {
  const ofHandlers = ['DoNotRetry', 'RateLimited', 'RetryAfter', 'defineHandlers']
  const ofClient = ['TaskUnsuccessful', 'XQueueError', 'createClient']
  const ofProcesses = ['fastifyXQueue', 'startServer', 'startWorker', 'startXQueue']
  const names = [...ofHandlers, ...ofClient, ...ofProcesses].sort()
  expect(Object.keys(publicSurface).sort()).toEqual(names)
})
