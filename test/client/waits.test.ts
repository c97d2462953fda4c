import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, beforeEach, expect, it, vi } from 'vitest'
import { createClient, defineHandlers, type TaskUnsuccessful } from '../../src/index.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { HttpProxy, type ProxiedCall } from '../fixtures/http-proxy.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const handlers = defineHandlers({
  greet: { run: ({ payload }: { payload: { name: string } }) => `hello ${payload.name}` },
  hang: { run: (_task, { signal }) => new Promise((_, reject) => signal.addEventListener('abort', reject)) },
})

let server: Server
/** The tasks of each call that waits, as long as it does. */
let open: Map<AbortSignal, string[]>
let calls: string[][]

beforeAll(async () => {
  server = await startServer({}, handlers)
})

beforeEach(() => {
  open = new Map()
  calls = []
})

const client = (own: typeof fetch = fetch, url = server.url) =>
  createClient<typeof handlers>(url, {
    fetch: (address, init) => {
      if (String(address).endsWith('/tasks/wait')) {
        const { ids } = JSON.parse(init!.body as string)
        calls.push(ids)
        open.set(init!.signal!, ids)
        init!.signal!.addEventListener('abort', () => open.delete(init!.signal!))
      }
      return own(address, init)
    },
  })

async function hanging(count: number): Promise<string[]> {
  return client().submitMany(Array.from({ length: count }, () => ({ type: 'hang' as const, payload: {} })))
}

const codeOf = (result: Promise<unknown>) => result.then(String, ({ code }: TaskUnsuccessful) => code)

it('waits for many tasks with few calls', async () => {
  const ids = await hanging(1_300)
  const waiting = client()
  const codes = Promise.all(ids.map((id) => codeOf(waiting.result(id))))
  await vi.waitFor(() => expect(calls.flat()).toHaveLength(1_300))
  expect(calls.map(({ length }) => length)).toEqual([1_000, 300])
  await client().cancelMany({ type: 'hang' })
  expect(new Set(await codes)).toEqual(new Set(['task_canceled']))
  expect(calls).toHaveLength(2)
})

it('takes over the tasks of small calls, so that waits that begin one by one have few calls too', async () => {
  const ids = await hanging(30)
  const waiting = client()
  const codes: Promise<string>[] = []
  for (const id of ids) {
    codes.push(codeOf(waiting.result(id)))
    await sleep(8)
    expect(open.size).toBeLessThanOrEqual(8)
  }
  await vi.waitFor(() => expect([...open.values()].flat().sort()).toEqual(ids.toSorted()))
  await client().cancelMany({ type: 'hang' })
  expect(new Set(await Promise.all(codes))).toEqual(new Set(['task_canceled']))
})

it('shares the wait for a task, and leaves it when no caller waits any more', async () => {
  const [id] = await hanging(1)
  const waiting = client()
  const [first, second] = [new AbortController(), new AbortController()]
  const ends = [first, second].map(({ signal }) =>
    waiting.result(id!, { signal }).catch((error: Error) => error.message),
  )
  await vi.waitFor(() => expect([...open.values()]).toEqual([[id]]))
  first.abort(new Error('enough'))
  expect(await ends[0]).toBe('enough')
  expect([...open.values()]).toEqual([[id]])
  second.abort(new Error('enough too'))
  expect(await ends[1]).toBe('enough too')
  await vi.waitFor(() => expect(open.size).toBe(0))
  await client().cancel(id!)
})

it('leaves a wait whose other tasks have ended', async () => {
  const ids = await hanging(2)
  const waiting = client()
  const leave = new AbortController()
  const ends = [waiting.result(ids[0]!, { signal: leave.signal }), waiting.result(ids[1]!)].map(codeOf)
  await vi.waitFor(() => expect([...open.values()].flat().sort()).toEqual(ids.toSorted()))
  leave.abort(Object.assign(new Error('enough'), { code: 'left' }))
  await client().cancel(ids[1]!)
  expect(await Promise.all(ends)).toEqual(['left', 'task_canceled'])
  await vi.waitFor(() => expect(open.size).toBe(0))
  await client().cancel(ids[0]!)
})

it('lets no wait fail because of the id of another one', async () => {
  const [id] = await hanging(1)
  const waiting = client()
  const bad = ['x'.repeat(101), '\ud800', { id: 5 }, { id: null }].map((one) => codeOf(waiting.result(one as string)))
  const code = codeOf(waiting.result(id!))
  expect(await Promise.all(bad)).toEqual(bad.map(() => 'not_found'))
  await client().cancel(id!)
  expect(await code).toBe('task_canceled')
})

it('waits again for tasks that had not ended at the end of a call', async () => {
  let isFirst = true
  const waiting = client(async (address, init) => {
    if (!String(address).endsWith('/tasks/wait') || !isFirst) return fetch(address, init)
    isFirst = false
    return fetch(address, { ...init!, body: JSON.stringify({ ...JSON.parse(init!.body as string), wait: 0 }) })
  })
  const [id] = await hanging(1)
  const code = codeOf(waiting.result(id!))
  await vi.waitFor(() => expect(calls).toEqual([[id], [id]]), 10_000)
  await client().cancel(id!)
  expect(await code).toBe('task_canceled')
})

it('reports an unknown task', async () => {
  const none = '01a22df9-c921-710d-bb24-4966cb0bf552'
  await expect(client().result(none)).rejects.toMatchObject({
    code: 'not_found',
    message: expect.stringContaining(none),
  })
})

it('waits on while a server that it has reached is away', async () => {
  const proxy = await HttpProxy.start(server.url)
  closeAfterwards(() => proxy.stop())
  const faults: ((call: ProxiedCall) => void)[] = []
  const forward = (call: ProxiedCall) => call.forward()
  proxy.handle = (call) => {
    const handle = (call.path.endsWith('/tasks/wait') && faults.shift()) || forward
    handle(call)
  }
  for (const own of [undefined, fetch]) {
    const waiting = createClient<typeof handlers>(proxy.url, { fetch: own })
    faults.push(
      (call) => call.lose('call'),
      (call) => call.lose('answer'),
      (call) => call.lose('call'),
      forward,
    )
    expect(await waiting.result(await waiting.submit('greet', { name: 'bob' }))).toBe('hello bob')
    expect(faults).toEqual([])
  }
})

it('waits on while a server is away whose first answer has only begun', async () => {
  const proxy = await HttpProxy.start(server.url)
  closeAfterwards(() => proxy.stop())
  for (const own of [undefined, fetch]) {
    const [id] = await hanging(1)
    const moments = ['rest', 'call'] as const
    let count = 0
    proxy.handle = (call) => {
      const moment = moments[count++]
      if (moment) call.lose(moment)
      else call.forward()
    }
    const code = codeOf(createClient<typeof handlers>(proxy.url, { fetch: own }).result(id!))
    await vi.waitFor(() => expect(count).toBe(3), 10_000)
    await client().cancel(id!)
    expect(await code).toBe('task_canceled')
  }
})

it('reports a server that it cannot reach, or that refuses the key', async () => {
  await expect(createClient('http://127.0.0.1:9').result('x')).rejects.toMatchObject({ code: 'engine_unavailable' })
  const guarded = await startServer({ auth: 'keys' })
  closeAfterwards(() => guarded.stop())
  const key = await guarded.key(['submit'])
  await expect(createClient(guarded.url, { key }).result('x')).rejects.toMatchObject({ code: 'forbidden' })
})
