import { beforeAll, expect, expectTypeOf, it } from 'vitest'
import { z } from 'zod'
import { type BatchState, createClient, defineHandlers, type FlowTask } from '../../src/index.ts'
import { type Server, startServer } from '../fixtures/server.ts'

/** Handlers of `gate` run until a test opens it. */
let open: () => void
let opened: Promise<void>

const handlers = defineHandlers({
  number: { payload: z.object({ n: z.number() }), run: ({ payload }) => payload.n },
  gate: { run: () => opened },
  sum: {
    run: (_task, { predecessors }) => ({
      sum: predecessors.reduce((sum, { result }) => sum + Number(result), 0),
      of: predecessors.map(({ type, status }) => `${type} ${status}`),
    }),
  },
  refuse: {
    maxRetry: 0,
    run: () => {
      throw new Error('never')
    },
  },
})
let server: Server
const client = () => createClient<typeof handlers>(server.url)
const none = undefined as never

beforeAll(async () => {
  server = await startServer({}, handlers)
})

const close = () => {
  opened = new Promise((resolve) => (open = resolve))
}

it('submits a graph in one call, and resolves when all of its tasks have ended', async () => {
  const flow = client().flow()
  const numbers = [1, 2, 3].map((n) => flow.add('number', { n }, { tags: { n: String(n) } }))
  expectTypeOf(numbers).toEqualTypeOf<FlowTask<'number', number>[]>()
  const sum = flow.add('sum', none, { after: numbers, priority: 9 })
  flow.add('sum', none, { after: [sum, numbers[0]!], onFailure: 'run' })
  const { ids, batch } = await flow.submit()
  const state = await batch.ended()
  expect(state).toMatchObject({ batch: batch.name, total: 5, success: 5, progress: 100, done: true })
  expect(await client().result<'sum'>(ids[3]!)).toEqual({ sum: 6, of: Array(3).fill('number success') })
  const last = await client().get(ids[4]!)
  expect(last).toMatchObject({ after: [ids[3], ids[0]], onFailure: 'run', batch: batch.name })
})

it('knows the types of the handlers', async () => {
  const flow = client().flow('typed')
  // @ts-expect-error the payload is checked by the compiler as well
  flow.add('number', { n: 'x' })
  await expect(flow.submit()).rejects.toMatchObject({
    code: 'invalid_payload',
    details: { errors: [{ path: 'tasks[0].payload.n' }] },
  })
  // @ts-expect-error and so is the type
  client().flow().add('nope', {})
  // @ts-expect-error and the failure policy
  client().flow().add('number', { n: 1 }, { onFailure: 'stop' })
  // @ts-expect-error a batch has one name, which the flow has
  client().flow().add('number', { n: 1 }, { batch: 'other' })
})

it('accepts existing tasks as predecessors, and refuses tasks of another flow', async () => {
  const { id } = await client().submit('number', { n: 7 })
  const flow = client().flow('mine')
  flow.add('sum', none, { after: [id] })
  const { ids, batch } = await flow.submit()
  expect(batch.name).toBe('mine')
  expect((await client().result<'sum'>(ids[0]!)).sum).toBe(7)
  const foreign = client().flow().add('number', { n: 1 })
  expect(() =>
    client()
      .flow()
      .add('sum', none, { after: [foreign] }),
  ).toThrow('a task of type "number" was not added to this flow: use the ids from submit()')
})

it('accepts a flow completely or not at all', async () => {
  const flow = client().flow('nothing')
  flow.add('number', { n: 1 })
  flow.add('sum', none, { after: ['none'] })
  await expect(flow.submit()).rejects.toMatchObject({ code: 'unknown_predecessor' })
  await expect(client().batch('nothing').state()).rejects.toMatchObject({ code: 'not_found' })
})

it('accepts indexes in submitMany, and a batch in submit', async () => {
  const batch = 'by hand'
  const ids = await client().submitMany([
    { type: 'refuse', payload: none, batch },
    { type: 'sum', payload: none, batch, after: [0], onFailure: 'run' },
  ])
  await client().submit('sum', none, { batch, after: ids, onFailure: 'run' })
  expect(await client().batch(batch).ended()).toMatchObject({ total: 3, failed: 1, success: 2 })
  expect((await client().result<'sum'>(ids[1]!)).of).toEqual(['refuse failed'])
})

it('reports each observed change until the end', async () => {
  close()
  const flow = client().flow()
  const first = flow.add('number', { n: 1 })
  const gate = flow.add('gate', none, { after: [first] })
  flow.add('sum', none, { after: [gate] })
  const { batch } = await flow.submit()
  const seen: BatchState[] = []
  const ended = batch.ended({
    onProgress: (state) => {
      seen.push(state)
      if (state.success === 1 && state.processing === 1) open()
    },
  })
  expect(await ended).toBe(seen.at(-1))
  expect(seen.at(-1)).toMatchObject({ success: 3, done: true })
  const progress = seen.map((state) => state.progress)
  expect(progress).toContain(33.3)
  expect(progress).toEqual([...progress].sort((a, b) => a - b))
  expect(new Set(seen.map((state) => JSON.stringify(state))).size).toBe(seen.length)
})

it('waits on while its key has no calls left', async () => {
  close()
  const guarded = await startServer({ auth: 'keys' }, handlers)
  const key = await guarded.key(['submit', 'read'], { rate: { max: 2, perMs: 500 } })
  const seeing: typeof fetch = async (...asked) => {
    const answer = await fetch(...asked)
    if (answer.status === 429) open()
    return answer
  }
  const flow = createClient<typeof handlers>(guarded.url, { key, fetch: seeing }).flow()
  flow.add('gate', none)
  const { batch } = await flow.submit()
  expect(await batch.ended()).toMatchObject({ success: 1, done: true })
  await opened
})

it('stops waiting when its signal fires, and does not cancel the batch', async () => {
  close()
  const flow = client().flow()
  const gate = flow.add('gate', none)
  flow.add('sum', none, { after: [gate] })
  const { ids, batch } = await flow.submit()
  const stop = new AbortController()
  const waiting = batch.ended({ signal: stop.signal, onProgress: () => stop.abort(new Error('enough')) })
  await expect(waiting).rejects.toThrow('enough')
  await expect(batch.ended({ signal: stop.signal })).rejects.toThrow('enough')
  expect(await batch.state()).toMatchObject({ total: 2, done: false })
  expect(await batch.cancel()).toBe(2)
  open()
  expect(await batch.ended()).toMatchObject({ success: 0, canceled: 2 })
  close()
  open()
  expect(await batch.retry()).toBe(2)
  expect(await batch.ended()).toMatchObject({ success: 2, canceled: 0 })
  expect((await client().result<'sum'>(ids[1]!)).of).toEqual(['gate success'])
})
