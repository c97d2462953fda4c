import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { temporaryFolder } from '../fixtures/folder.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { type Program, startProgram } from '../fixtures/program.ts'
import { LANGUAGES } from './languages.ts'

interface Running {
  child: ChildProcess
  log: string
}

describe.each(Object.entries(LANGUAGES))('a worker in %s', (_language, { command, env: own, build }) => {
  let server: Program
  let worker: Running

  beforeAll(async () => {
    build()
    server = await startProgram({ flags: ['--lease', '2s'] })
  }, 120_000)
  afterEach(async () => {
    if (worker.child.exitCode !== null || worker.child.signalCode !== null) return
    worker.child.kill('SIGKILL')
    await once(worker.child, 'exit')
  })

  /** Starts a worker, and waits until it claims tasks. */
  const start = (...args: string[]) => startOn(server, ...args)
  async function startOn(server: Program, ...args: string[]): Promise<void> {
    const [program, ...first] = command
    const env = { ...process.env, ...own, XQUEUE_SERVER: server.url }
    const child = spawn(program, [...first, ...args], { env, stdio: ['ignore', 'ignore', 'pipe'] })
    const started: Running = { child: endAtExit(child), log: '' }
    child.stderr.on('data', (chunk) => {
      started.log += chunk
    })
    worker = started
    await server.until(await server.submit('echo').catch(() => known(server)), { status: 'success' })
  }
  /** The first one of all makes its types known. */
  async function known(server: Program): Promise<string> {
    await server.untilHandled('echo')
    return server.submit('echo')
  }
  const stopped = () => once(worker.child, 'exit')
  const listed = async () =>
    (await server.get('/workers')).body.workers.some(({ id }: { id: string }) => id === 'worker-under-test')

  it('runs tasks, and settles them for each outcome of a handler', async () => {
    await start()
    const payload = { text: 'Grüße', list: [1, null, { a: true }] }
    const [echo, busy, never, crash, strange, wordless] = await Promise.all([
      server.submit('echo', payload),
      server.submit('busy'),
      server.submit('never'),
      server.submit('crash', {}, { max_retry: 0 }),
      server.submit('strange'),
      server.submit('wordless', {}, { max_retry: 0 }),
    ])
    const worker_id = 'worker-under-test'
    await server.until(echo, { status: 'success', result: { payload, attempt: 1 }, worker_id, attempts: 1 })
    await server.until(busy, { status: 'success', result: 2, attempts: 2 })
    await server.until(never, { status: 'failed', error: 'this cannot work', attempts: 1 })
    await server.until(crash, { status: 'failed', error: expect.stringContaining('out of order') })
    await server.until(strange, {
      status: 'failed',
      error: expect.stringMatching(/is no JSON|cannot be written as JSON/),
      attempts: 1,
    })
    const unreadable = expect.stringMatching(/wordlessError.*text cannot be read/i)
    await server.until(wordless, { status: 'failed', error: unreadable, attempts: 1 })
  })

  it('declares limits and defaults of its types', async () => {
    await start()
    const { types } = (await server.get('/types')).body
    expect(types.find(({ type }: { type: string }) => type === 'steps')).toMatchObject({
      ...{ max_concurrency: 70, group_concurrency: 7, rate: { max: 900, per: 60 } },
      retention: { success: null, failed: 9 * 86_400 },
    })
    expect((await server.get('/limits/declared')).body).toMatchObject({ max: 90 })
    const id = await server.submit('steps', { steps: 1 }, { delay: 60 })
    expect((await server.get(`/tasks/${id}`)).body).toMatchObject({
      ...{ max_retry: 5, queue_timeout: 7_200, process_timeout: 300, uses: { declared: 2 } },
    })
  })

  it('logs each failed attempt with its error and stack, and a hold as none', async () => {
    await start()
    await server.untilHandled('limited')
    const [busy, never, crash] = await Promise.all([
      server.submit('busy'),
      server.submit('never'),
      server.submit('crash', {}, { max_retry: 0 }),
    ])
    await server.until(busy, { status: 'success' })
    for (const id of [never, crash]) await server.until(id, { status: 'failed' })
    const held = await server.submit('limited', 1)
    await server.until(held, { status: 'success' })
    worker.child.kill('SIGTERM')
    await stopped()
    const failures = worker.log.match(/^.*failed.*$/gm)!
    for (const id of [busy, never, crash]) expect(failures.filter((line) => line.includes(id))).toHaveLength(1)
    expect(failures.filter((line) => line.includes(held))).toEqual([])
    expect(worker.log).toMatch(
      /Traceback[\s\S]*out of order|at Object\.run .*worker\.ts|panic: out of order\s+goroutine/,
    )
  })

  it('keeps lines of the log with the task, while the handler runs and with its outcome', async () => {
    await start()
    await server.untilHandled('talks')
    const linesOf = async (id: string) => (await server.call('GET', `/tasks/${id}/logs`)).body.lines
    const id = await server.submit('talks', 3_600)
    const isLive = async () => expect(await linesOf(id)).toHaveLength(2)
    await vi.waitFor(isLive, { timeout: 20_000 })
    const first = { n: 1, delivery: 1, attempt: 1, time: expect.stringMatching(/^20.*Z$/), level: 'info' }
    const lines = await linesOf(id)
    expect(lines[0]).toEqual({ ...first, message: 'begun', fields: { number: 1 } })
    // The value is no JSON: Python and Go say so, and the others lose no line either.
    expect(lines[1]).toMatchObject({ n: 2, level: 'warn', message: 'odd' })
    await server.call('DELETE', `/tasks/${id}`)
    const short = await server.submit('talks', 0)
    await server.until(short, { status: 'success' })
    expect((await linesOf(short)).map(({ message }: { message: string }) => message)).toEqual(['begun', 'odd', 'done'])
  })

  it('holds its type after a refused call, and runs the task again at no cost', async () => {
    await start()
    await server.untilHandled('limited')
    const invalid = await Promise.all([0, -1].map((time) => server.submit('limited', time, { max_retry: 0 })))
    const error = expect.stringMatching(/^\(the hold of .* is not valid.*back-off applies\) .*HTTP 429/)
    for (const id of invalid) await server.until(id, { status: 'failed', attempts: 1, deliveries: 1, error })
    const first = await server.submit('limited', 3_600)
    await server.until(first, { status: 'pending', deliveries: 1, attempts: 0, error: expect.stringContaining('429') })
    const second = await server.submit('limited', 3_600)
    expect((await server.call('GET', `/tasks/${second}/explain`)).body).toMatchObject({ reason: 'held' })
    await server.call('POST', '/limits/type:limited/hold', { for: 0 })
    await server.until(first, { status: 'success', attempts: 1, result: 1, deliveries: 2 })
  })

  it('reports the units of limits that it used, and holds a limit by name', async () => {
    await start()
    await server.untilHandled('metered')
    const put = (name: string, body: object) => server.call('PUT', `/limits/${name}`, body)
    expect((await put('tokens', { rate: { max: 10, per: '1h' } })).status).toBe(200)
    expect((await put('quota', { max: 5 })).status).toBe(200)
    const uses = { tokens: 9, quota: 1 }
    for (let round = 0; round < 2; round++) {
      // The second one starts only because the first has used fewer units than it asked for.
      const id = await server.submit('metered', null, { uses })
      await server.until(id, { status: 'success', result: 'metered', uses })
    }
    const held = await server.submit('metered', 'quota', { uses: { quota: 1 } })
    await server.until(held, { status: 'pending', deliveries: 1, attempts: 0, error: expect.stringContaining('429') })
    expect((await server.call('GET', '/limits/quota')).body).toMatchObject({
      held_until: expect.any(String),
      in_use: 0,
    })
    expect((await server.call('GET', `/tasks/${held}/explain`)).body.limits).toMatchObject([
      { name: 'quota', reason: 'held' },
    ])
    await server.until(await server.submit('metered'), { status: 'success' })
    await server.call('POST', '/limits/quota/resume')
    await server.until(held, { status: 'success', attempts: 1, deliveries: 2 })
    for (const name of ['tokens', 'quota']) expect((await server.call('DELETE', `/limits/${name}`)).status).toBe(200)
  })

  it('fails a task whose outcome the server refuses with the reason, and drops no outcome', async () => {
    await start()
    const delays = ['nan', 'inf', '-inf', '1e9']
    const never = await Promise.all(delays.map((delay) => server.submit('later', delay, { max_retry: 0 })))
    const [over, big] = [await server.submit('later', '-5'), await server.submit('big')]
    for (const id of never) {
      await server.until(id, { status: 'failed', attempts: 1, error: expect.stringMatching(/back-off applies.*busy/) })
    }
    await server.until(over, { status: 'success', result: 2, attempts: 2 })
    await server.until(big, { status: 'failed', attempts: 1, error: expect.stringMatching(/result\.id.*as a string/) })
  })

  it('keeps its lease although its progress is invalid', async () => {
    await start()
    const loud = await server.submit('loud')
    await server.until(loud, { status: 'success', result: 'kept', attempts: 1, deliveries: 1, progress: null })
  })

  it('keeps its lease and the other tasks although the progress of a handler cannot be serialized', async () => {
    await start()
    const unruly = await server.submit('unruly')
    await server.until(unruly, { status: 'success', result: 'kept', attempts: 1, deliveries: 1 })
  })

  it('passes the outcomes of the predecessors to the handler', async () => {
    await start()
    const echo = await server.submit('echo', 7)
    const never = await server.submit('never')
    const join = await server.submit('join', {}, { after: [never, echo], on_failure: 'run' })
    const reported = [
      [never, 'never', 'failed', null, 'this cannot work'],
      [echo, 'echo', 'success', { payload: 7, attempt: 1 }, null],
    ]
    await server.until(join, { status: 'success', result: reported })
    await server.until(await server.submit('join'), { status: 'success', result: [] })
  })

  it('reads results of predecessors that are too large for the answer with the lease', async () => {
    await start()
    const text = 'x'.repeat(600_000)
    const after = await Promise.all([text, 'short', text].map((payload) => server.submit('echo', payload)))
    const id = await server.submit('lengths', {}, { after })
    await server.until(id, { status: 'success', result: [600_000, 5, 600_000] })
  })

  it('runs no more tasks at once than its concurrency allows', async () => {
    await start()
    const ids = await Promise.all(Array.from({ length: 5 }, () => server.submit('steps', { steps: 30 })))
    for (const id of ids) await server.until(id, { status: 'success', result: 'all steps done' })
    const at = (name: string) => Promise.all(ids.map(async (id) => Date.parse((await server.until(id, {}))[name])))
    const [starts, ends] = [await at('started_at'), await at('completed_at')]
    const together = starts.map((start) => starts.filter((other, i) => other <= start && ends[i]! > start).length)
    expect(Math.max(...together)).toBeLessThanOrEqual(3)
    const { workers } = (await server.call('GET', '/workers')).body
    const { worker_id: id } = await server.until(ids[0]!, {})
    expect(workers.find((one: { id: string }) => one.id === id)).toMatchObject({
      concurrency: 3,
      host: null,
      pid: null,
    })
  })

  it('keeps its lease with heartbeats, which send progress to the server and a cancel to the handler', async () => {
    await start()
    const id = await server.submit('steps', { steps: 10_000 })
    // Longer than a lease lives: step 120 is after 2.4 s.
    const seen = await vi.waitFor(
      async () => {
        const task = await server.until(id, { status: 'processing' })
        expect(task.progress?.step).toBeGreaterThan(120)
        return task
      },
      { timeout: 30_000 },
    )
    expect(seen.deliveries).toBe(1)
    expect((await server.call('DELETE', `/tasks/${id}`)).status).toBe(202)
    await server.until(id, { status: 'canceled', attempts: 1 })
    await vi.waitFor(() => expect(worker.log).toContain('canceled'))
  })

  it('stops an attempt at its time-out', async () => {
    await start()
    const id = await server.submit('steps', { steps: 10_000 }, { process_timeout: 0.3, max_retry: 0 })
    await server.until(id, { status: 'timeout', timeout_reason: 'processing' })
    await vi.waitFor(() => expect(worker.log).toMatch(/lease .*lost|no longer held|attempt timed out/), {
      timeout: 10_000,
    })
    await server.until(await server.submit('echo'), { status: 'success' })
  })

  it('continues after the server was killed, and reports the outcomes of the meantime', async () => {
    await start()
    const running = await server.submit('steps', { steps: 40 })
    await server.until(running, { status: 'processing' })
    await server.kill()
    await vi.waitFor(() => expect(worker.log).toMatch(/no tasks can be taken|a turn failed/))
    await server.start()
    await server.until(running, { status: 'success', result: 'all steps done' })
    await server.until(await server.submit('echo'), { status: 'success' })
  })

  it('offers an outcome again after a server that could not take it', async () => {
    // Its leases outlive the time without it.
    const server = await startProgram({})
    await startOn(server)
    const file = join(temporaryFolder(), 'open')
    const id = await server.submit('gated', file)
    // The task is `processing` before the worker has the answer to its claim, and the kill would lose it.
    await vi.waitFor(() => expect(existsSync(`${file}.begun`)).toBe(true))
    await server.kill()
    let refused = 0
    const away = createServer((request, response) => {
      let body = ''
      request.on('data', (chunk) => {
        body += chunk
      })
      request.on('end', () => {
        if (body.includes('"through"')) refused += 1
        response.writeHead(503, { 'Content-Type': 'application/problem+json', Connection: 'close' })
        response.end(JSON.stringify({ status: 503, code: 'engine_unavailable', detail: 'away', title: 'away' }))
      })
    })
    await once(away.listen(server.port, '127.0.0.1'), 'listening')
    writeFileSync(file, '')
    await vi.waitFor(() => expect(refused, worker.log).toBeGreaterThan(0), { timeout: 20_000 })
    away.closeAllConnections()
    await new Promise((closed) => away.close(closed))
    await server.start()
    await server.until(id, { status: 'success', result: 'through', attempts: 1, deliveries: 1 })
  })

  it('does not hold the lease of an attempt that ran longer than its time-out', async () => {
    await start()
    const id = await server.submit('watch', {}, { process_timeout: 0.3, max_retry: 0 })
    await server.until(id, { status: 'timeout' })
    await vi.waitFor(() => expect(worker.log).toContain('aborted'))
    expect(worker.log).toMatch(/looked: false\n(\{.*\n)?aborted/)
  })

  it('drops the outcome of a lost lease, and the task finishes once', async () => {
    await start()
    const id = await server.submit('steps', { steps: 25 })
    await server.until(id, { status: 'processing' })
    worker.child.kill('SIGSTOP')
    await server.until(id, { status: 'pending', attempts: 0 })
    worker.child.kill('SIGCONT')
    // While it was stopped, the task may have been delivered once more.
    const { attempts, deliveries } = await server.until(id, { status: 'success' })
    expect([attempts, deliveries > 1]).toEqual([1, true])
    await vi.waitFor(() => expect(worker.log).toMatch(/lease .*lost|no longer held|too late/))
  })

  it('knows after it was frozen that it lost its lease, and stops its handler', async () => {
    await start()
    const id = await server.submit('watch')
    await vi.waitFor(() => expect(worker.log.split('looked: true').length).toBeGreaterThan(20))
    worker.child.kill('SIGSTOP')
    const next = await vi.waitFor(
      async () => {
        const { body } = await server.post('/tasks/consume', { types: ['watch'], worker_id: 'next' })
        expect(body.leases).toHaveLength(1)
        return body.leases[0]
      },
      { interval: 20 },
    )
    worker.child.kill('SIGCONT')
    await vi.waitFor(() => expect(worker.log).toContain('aborted\n'))
    const [, fence, looks] = /.*woke with fence (\d+)\n(.*?)aborted/s.exec(worker.log)!
    expect(looks).not.toContain('looked: true')
    expect(next.task.deliveries).toBeGreaterThan(Number(fence))
    expect((await server.post(`/leases/${next.lease}/complete`, { result: 'next' })).status).toBe(200)
    await server.until(id, { status: 'success', result: 'next', attempts: 1 })
  })

  it('ends after SIGTERM when its tasks have ended, and claims no more', async () => {
    await start()
    const running = await server.submit('steps', { steps: 50 })
    // Its handler runs: a claim whose answer is under way ends with the worker.
    await server.until(running, { progress: { step: expect.any(Number) } })
    worker.child.kill('SIGTERM')
    const ended = stopped()
    await vi.waitFor(async () => expect(await takesNone()).toBe(true))
    expect(await listed()).toBe(true)
    expect(await ended).toEqual([0, null])
    expect(await server.until(running, {})).toMatchObject({ status: 'success', attempts: 1 })
    expect(await listed()).toBe(false)
  })

  it('releases tasks that have not ended in time, which costs no attempt', async () => {
    await start('0.1')
    const running = await server.submit('steps', { steps: 10_000 })
    await server.until(running, { progress: { step: expect.any(Number) } })
    worker.child.kill('SIGTERM')
    expect(await stopped()).toEqual([0, null])
    await server.until(running, { status: 'pending', attempts: 0 })
    await server.call('DELETE', `/tasks/${running}`)
  })

  it('does not start if the server refuses it', async () => {
    await start()
    const [program, ...args] = command
    const env = { ...process.env, ...own, XQUEUE_SERVER: `${server.url}/nothing-here` }
    const child = spawn(program, args, { env, stdio: ['ignore', 'ignore', 'pipe'] })
    let log = ''
    child.stderr.on('data', (chunk) => {
      log += chunk
    })
    expect((await once(child, 'close'))[0]).toBe(1)
    expect(log).toContain('see /docs for all calls')
  })

  /** A task that is submitted now stays pending, because no worker polls. */
  async function takesNone(): Promise<boolean> {
    const id = await server.submit('echo')
    const { body } = await server.call('GET', `/tasks/${id}/explain`)
    await server.call('DELETE', `/tasks/${id}`)
    return body.status === 'pending'
  }
})
