import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import {
  createClient,
  defineHandlers,
  type HandlerContext,
  type Log,
  startWorker,
  type TaskWith,
} from '../../src/index.ts'
import { RemoteSource } from '../../src/remote/remote-source.ts'
import { completeSpec, TASK_LIMITS } from '../../src/task/task.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { HttpProxy } from '../fixtures/http-proxy.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { startProgram } from '../fixtures/program.ts'
import { main, root } from '../fixtures/root.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const LEASE_S = 2
const handlers = defineHandlers({
  remote: { run: ({ payload }: TaskWith<number>) => payload * 2 },
  blocks: {
    run: () => {
      const end = performance.now() + 2 * LEASE_S * 1_000
      while (performance.now() < end); // Its event loop cannot renew the lease meanwhile.
      return 'kept'
    },
  },
  waits: {
    run: async (_task: TaskWith<null>, { signal }) => {
      waiting.resolve()
      await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    },
  },
})
let waiting = Promise.withResolvers<void>()
let server: Server
let key: string
const lines: { message: string | undefined; fields: object }[] = []
const line = (fields: object | string, message?: string) =>
  void lines.push(typeof fields === 'string' ? { message: fields, fields: {} } : { message, fields })
const logger: Log = { trace: line, debug: line, info: line, warn: line, error: line, fatal: line, child: () => logger }

beforeAll(async () => {
  server = await startServer({ auth: 'keys', lease: `${LEASE_S}s` })
  key = await server.key(['work', 'submit', 'read'])
})
afterAll(() => server.stop())

const client = () => createClient<typeof handlers>(server.url, { key })
const worker = (more: object = {}) =>
  startWorker({ server: server.url, key, handlers, logger, shutdown: '10s', ...more })

it('takes tasks with its key, and the server lists it', async () => {
  await using _ = await worker({ workerId: 'mine' })
  expect(await client().result(await client().submit('remote', 21))).toBe(42)
  const listed = (await client().workers()).filter(({ id }) => id.endsWith('mine'))
  expect(listed).toMatchObject([{ types: ['remote', 'blocks', 'waits'] }])
})

it('is refused with a wrong key, a missing scope, and settings of a store', async () => {
  await expect(worker({ key: 'xq_wrong' })).rejects.toMatchObject({ code: 'unauthorized' })
  const reader = await server.key(['read'])
  await expect(worker({ key: reader })).rejects.toMatchObject({ code: 'forbidden', requiredScope: 'work' })
  await expect(worker({ engine: 'sqlite::memory:' })).rejects.toThrow('server and engine are both set')
  const many = Object.fromEntries(Array.from({ length: 101 }, (_, n) => [`t${n}`, handlers.remote]))
  await expect(worker({ handlers: many })).rejects.toThrow('the worker has 101 handlers')
})

it('renews the leases of a handler that blocks its event loop, for as long as the server wants', async () => {
  // A process of its own: the handler blocks the event loop of this one.
  const { url } = await startProgram({ flags: ['--lease', `${LEASE_S}s`] })
  await using _ = await worker({ server: url, key: undefined })
  const theirs = createClient<typeof handlers>(url)
  const task = await theirs.submit('blocks', undefined as never)
  expect(await theirs.result(task)).toBe('kept')
  expect(await theirs.get(task.id)).toMatchObject({ deliveries: 1, attempts: 1 })
})

it('stops the handler of a canceled task at once', async () => {
  waiting = Promise.withResolvers()
  await using _ = await worker()
  const { id } = await client().submit('waits', null)
  await waiting.promise
  await client().cancel(id)
  // The server would end it by itself as well, after five seconds, and then it would have no attempt.
  await vi.waitFor(
    async () => expect(await client().get(id)).toMatchObject({ status: 'canceled', attempts: 1 }),
    10_000,
  )
})

it('ends an attempt at its time-out, and takes the next task', async () => {
  waiting = Promise.withResolvers()
  await using _ = await worker({ concurrency: 1 })
  const late = await client().submit('waits', null, { processTimeout: 0.2, maxRetry: 0 })
  const next = await client().submit('remote', 1)
  await expect(client().result(late)).rejects.toMatchObject({ code: 'task_timeout', task: { attempts: 1 } })
  expect(await client().result(next)).toBe(2)
})

it('releases running tasks when its time at the stop is over, and leaves no lease behind', async () => {
  waiting = Promise.withResolvers()
  const first = await worker({ shutdown: 0 })
  const { id } = await client().submit('waits', null)
  await waiting.promise
  await first.stop()
  expect(await client().get(id)).toMatchObject({ status: 'pending', attempts: 0 })
  await client().cancel(id)
  // None of these is handed to the worker that has left.
  const tasks = Array.from({ length: 5 }, (_, n) => ({ type: 'remote' as const, payload: n }))
  const ids = await client().submitMany(tasks)
  await using _ = await worker()
  for (const one of ids) await client().result<'remote'>(one)
  const all = await Promise.all(ids.map((one) => client().get(one)))
  expect(all.map(({ deliveries }) => deliveries)).toEqual([1, 1, 1, 1, 1])
})

it('keeps the call that waits for tasks open while it reports', async () => {
  const between = await HttpProxy.start(server.url)
  await using _ = await worker({ server: between.url, concurrency: 5 })
  waiting = Promise.withResolvers()
  const { id } = await client().submit('waits', null)
  await waiting.promise
  await vi.waitFor(() => expect(between.calls.filter(({ body }) => body.includes('"wait":20'))).toHaveLength(2))
  // Its outcome is reported at once, although another call waits.
  await client().cancel(id)
  await vi.waitFor(async () => expect((await client().get(id)).status).toBe('canceled'), 10_000)
  expect(await client().result(await client().submit('remote', 4))).toBe(8)
  between.stop()
})

it('holds its leases by the clock of the server, which may be an hour behind its own', async () => {
  const between = await HttpProxy.start(server.url)
  between.handle = (call) => call.forward(3_600_000)
  const held = { run: (_task: TaskWith<null>, { lease }: HandlerContext) => lease.isHeld() }
  await using _ = await worker({ server: between.url, handlers: { held } })
  expect(await client().result(await client().submit('held' as never, null as never))).toBe(true)
  between.stop()
})

it.each([0, 1])('sends the lines of its handlers unless it keeps none: %i', async (logLines) => {
  const between = await HttpProxy.start(server.url)
  const talks = { run: (_task: TaskWith<null>, { log }: HandlerContext) => log.info('said') }
  await using _ = await worker({ server: between.url, handlers: { talks }, logLines })
  await client().result(await client().submit('talks' as never, null as never))
  expect(between.calls.some(({ body }) => body.includes('said'))).toBe(logLines > 0)
  between.stop()
})

it('receives the code of a refusal of an outcome', async () => {
  const source = new RemoteSource({ url: server.url, key })
  const identity = { id: 'direct', host: '', pid: 0, types: ['long'], concurrency: 1, startedAt: 0 }
  await source.register(identity)
  const task = await client().submit('long' as never, null as never)
  const { leases } = await source.turn({ worker: identity, want: 1 })
  const result = 'x'.repeat(TASK_LIMITS.resultBytesMax)
  const outcomes = [{ lease: leases[0]!.lease, outcome: { kind: 'success', result } as const }]
  await expect(source.turn({ worker: identity, want: 0, outcomes })).rejects.toMatchObject({ code: 'too_large' })
  await client().cancel(task.id)
})

it('claims only what neither the call that waits will bring nor has brought', async () => {
  const between = await HttpProxy.start(server.url)
  const source = new RemoteSource({ url: between.url, key })
  const worker = { id: 'careful', host: '', pid: 0, types: ['careful'], concurrency: 5, startedAt: 0 }
  const claimed = () => between.calls.map(({ body }) => JSON.parse(body).max).sort()
  await source.register(worker)
  await source.turn({ worker, want: 2, waitMs: 1_000, signal: AbortSignal.abort() })
  await source.turn({ worker, want: 2 })
  await source.turn({ worker, want: 5 })
  await vi.waitFor(() => expect(claimed()).toEqual([0, 2, 3]))
  await client().submit('careful' as never, null as never)
  let leases: readonly unknown[] = []
  while (leases.length === 0) {
    await setImmediate()
    leases = (await source.turn({ worker, want: 2 })).leases
  }
  expect(claimed()).toEqual([0, 1, 2, 3])
  between.stop()
})

it('reports that its call that waits has failed, so that its worker pauses', async () => {
  const between = await HttpProxy.start(server.url)
  const source = new RemoteSource({ url: between.url, key })
  const worker = { id: 'lost', host: '', pid: 0, types: ['remote'], concurrency: 1, startedAt: 0 }
  between.handle = (call) => call.lose('call')
  await expect(source.turn({ worker, want: 1, waitMs: 1_000 })).rejects.toMatchObject({ code: 'engine_unavailable' })
  between.stop()
})

it('declares the settings of its handlers, which an operator can overrule', async () => {
  const limited = {
    concurrency: 1,
    groupConcurrency: 2,
    groupTurns: 'time',
    rate: { max: 500, per: '1m' },
    uses: { licenses: 2 },
    limits: { licenses: { max: 3, rate: { max: 90, per: 1 } } },
    maxRetry: 1,
    queueTimeout: '1h',
    processTimeout: 0.5,
    retry: { base: 0.25, cap: '9s', factor: 3, jitter: 0 },
    retention: { success: '1h', failed: 0 },
    run: () => 1,
  } as const
  lines.length = 0
  await using _ = await worker({ handlers: { limited } })
  const operator = createClient(server.url, { key: await server.key(['admin']) })
  const declared = async () => (await operator.types.list()).find(({ type }) => type === 'limited')
  expect(await declared()).toMatchObject({
    ...{ maxConcurrency: 1, groupConcurrency: 2, groupTurns: 'time', rate: { max: 500, per: 60 } },
    retention: { success: 3_600, failed: 0, canceled: null, timeout: null },
  })
  expect(await operator.limits.get('licenses')).toMatchObject({ max: 3, rate: { max: 90, per: 1 } })
  const { id } = await createClient(server.url, { key }).submit('limited', {}, { delay: 3_600 })
  expect(await operator.get(id)).toMatchObject({
    ...{ maxRetry: 1, queueTimeout: 3_600, processTimeout: 0.5, uses: { licenses: 2 } },
  })
  await operator.limits.set('type:limited', { max: 7 })
  await using __ = await worker({ handlers: { limited: { ...limited, concurrency: 4 } } })
  expect(await declared()).toMatchObject({ maxConcurrency: 7 })
  expect(lines.filter(({ message }) => message?.includes('does not take the settings'))).toEqual([])
})

it('runs without the settings that the server does not take, and says why', async () => {
  lines.length = 0
  const bounded = await server.key(['work'], { bounds: { types: ['bounded', 'computed'], groups: null } })
  const some = { bounded: { concurrency: 1, run: () => 1 }, computed: { uses: () => ({ gpu: 1 }), run: () => 1 } }
  for (const type of Object.keys(some)) await server.queue.configureType(type, { declared: true })
  await using _ = await worker({ handlers: some, key: bounded })
  const warned = lines.filter(({ message }) => message?.includes('does not take the settings'))
  expect(warned.map(({ fields }) => fields)).toEqual([
    { types: ['computed'], why: expect.stringContaining('is a function') },
    { types: ['bounded', 'computed'], why: expect.stringContaining('a key with bounds cannot declare handlers') },
  ])
  const [submitted] = await server.queue.submit([completeSpec({ type: 'bounded' })])
  await server.as(await server.key(['admin'])).until(submitted!.task.id, { status: 'success', result: 1 })
})

it('is started by the command line, with the key of the environment', async () => {
  const folder = temporaryFolder()
  const source = join(root, 'src/index.ts')
  writeFileSync(
    join(folder, 'handlers.ts'),
    `import { defineHandlers } from '${source}'\nexport default defineHandlers({ typed: { run: () => 'from afar' } })\n`,
  )
  const start = (...args: string[]): { child: ChildProcess; log: () => string } => {
    let log = ''
    const env = { ...process.env, XQUEUE_KEY: key }
    const command = [main, 'worker', '--handlers', 'handlers.ts', ...args]
    const child = endAtExit(spawn(process.execPath, command, { cwd: folder, env, stdio: ['ignore', 'ignore', 'pipe'] }))
    child.stderr!.on('data', (chunk) => {
      log += chunk
    })
    return { child, log: () => log }
  }
  const { child, log } = start('--server', server.url)
  await vi.waitFor(() => expect(log()).toContain('xqueue is ready'), 20_000)
  expect(JSON.parse(log().trim().split('\n').at(-1)!)).toMatchObject({ server: server.url, types: ['typed'] })
  const task = await createClient(server.url, { key }).submit('typed', {})
  expect(await createClient(server.url, { key }).result(task)).toBe('from afar')
  child.kill('SIGTERM')
  expect(await once(child, 'exit')).toEqual([0, null])

  const both = start('--server', server.url, '--engine', 'sqlite::memory:')
  expect((await once(both.child, 'close'))[0]).toBe(2)
  expect(both.log()).toContain('--server and --engine are both set')
})
