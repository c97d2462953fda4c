import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { Listener } from '../fixtures/mqtt-listener.ts'
import { type Program, startProgram } from '../fixtures/program.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'

/** More than the heap of the server holds, in tasks whose payloads, and later results, are nearly 1 MB each. */
const HEAP_MB = 180
const TASKS = 200
const LONG = 'x'.repeat(950_000)
const AT_ONCE = 8

describe.each(['SQLite', 'Redis'])('a server with a small heap, on %s', (store) => {
  let program: Program
  let redis: RunningRedis | null = null
  /** Each is sent more than the heap holds. */
  const readers = 2

  beforeAll(async () => {
    redis = store === 'Redis' ? await startRedis() : null
    program = await startProgram({
      guarded: true,
      store: redis?.url,
      before: ['env', `NODE_OPTIONS=--max-old-space-size=${HEAP_MB}`],
      flags: ['--events-bytes', '1GB'], // The events of all tasks, so that a replay has all of them.
    })
    await inTurns(TASKS, (index) => program.call('POST', '/tasks', { type: 'remote', payload: [index, LONG] }))
  }, 240_000)
  afterAll(async () => {
    await redis?.stop()
  })

  async function inTurns(count: number, work: (index: number) => Promise<unknown>): Promise<void> {
    let next = 0
    const worker = async () => {
      while (next < count) await work(next++)
    }
    await Promise.all(Array.from({ length: AT_ONCE }, worker))
  }

  afterEach(async () => {
    expect(program.hasEnded, program.log.slice(-2_000)).toBe(false)
    expect((await program.call('GET', '/live')).body).toEqual({ status: 'alive' })
  })

  it('lists long tasks in pages that fit, and misses none', async () => {
    const seen = new Set<string>()
    const pages = async () => {
      for (let cursor = ''; ; ) {
        const { body } = await program.call('GET', `/tasks?limit=1000${cursor}`)
        for (const { id } of body.tasks) seen.add(id)
        if (body.next_cursor === null) return
        expect(body.count).toBeLessThan(10)
        cursor = `&cursor=${body.next_cursor}`
      }
    }
    await Promise.all(Array.from({ length: readers }, pages))
    expect(seen.size).toBe(TASKS)
  }, 240_000)

  it('hands out as many long tasks as fit in an answer, and the others with the next call', async () => {
    const leases: string[] = []
    while (leases.length < TASKS) {
      const { body } = await program.call('POST', '/tasks/consume', { types: ['remote'], max: 1_000 })
      expect(body.leases.length).toBeGreaterThan(0)
      expect(body.leases.length).toBeLessThan(40)
      leases.push(...body.leases.map(({ lease }: { lease: string }) => lease))
    }
    await inTurns(TASKS, (index) => program.call('POST', `/leases/${leases[index]}/complete`, { result: LONG }))
  }, 240_000)

  it('replays long events to many streams at once, each complete', async () => {
    const replay = async () => {
      const headers = { Authorization: `Bearer ${program.token}`, 'Last-Event-ID': '0' }
      const stop = new AbortController()
      const answer = await fetch(`${program.url}/api/v1/events?status=success`, { headers, signal: stop.signal })
      const mark = '"task_id":"'
      let seen = 0
      let rest = '' // Too short for a mark: a chunk can end within one.
      for await (const chunk of answer.body!) {
        const text = rest + Buffer.from(chunk).toString('latin1')
        seen += text.split(mark).length - 1
        if (seen === TASKS) break
        rest = text.slice(1 - mark.length)
      }
      stop.abort()
      return seen
    }
    expect(await Promise.all(Array.from({ length: readers }, replay))).toEqual(Array(readers).fill(TASKS))
  }, 240_000)

  it('sends late subscribers long tasks over MQTT', async () => {
    const listen = () =>
      Listener.connect(`mqtt://127.0.0.1:${program.mqttPort}`, ['xqueue/tasks/+'], {
        username: 'key',
        password: program.token,
      })
    const listeners = await Promise.all(Array.from({ length: 4 }, listen))
    for (const listener of listeners) await listener.until(() => expect(listener.messages.length).toBeGreaterThan(5))
    for (const listener of listeners) await listener.close()
  }, 120_000)

  it('creates a bounded number of types for workers that invent their names', async () => {
    const before = (await program.call('GET', '/types')).body.count
    const invent = (from: number) =>
      program.call('POST', '/tasks/consume', { types: Array.from({ length: 100 }, (_, index) => `t-${from + index}`) })
    const statuses: number[] = []
    for (let from = 0; from < 1_100; from += 100) statuses.push((await invent(from)).status)
    expect(statuses.slice(0, 9)).toEqual(Array(9).fill(200))
    expect(await invent(5_000)).toMatchObject({ status: 409, body: { code: 'too_many_types' } })
    expect((await program.call('GET', '/types')).body.count).toBe(before + 900)
    expect((await program.call('POST', '/tasks/consume', { types: ['t-1', 'remote'] })).status).toBe(200)
    const unknown = await program.call('POST', '/tasks', { type: 'nobody-knows-it' })
    expect(unknown.body.registered_types).toHaveLength(20)
    expect(unknown.body.detail.length).toBeLessThan(500)
  }, 60_000)

  it('refuses a batch that names too many tasks in `after`, before it reads any of them', async () => {
    const { id } = (await program.call('POST', '/tasks', { type: 'remote' })).body
    const after = Array.from({ length: 1_000 }, (_, index) => index)
    const tasks = Array.from({ length: 4_000 }, (_, index) => ({ type: 'remote', after: index < 1_000 ? [id] : after }))
    const refused = await program.call('POST', '/tasks/batch', { tasks })
    expect(refused).toMatchObject({ status: 413, body: { code: 'too_large' } })
    expect(refused.body.detail).toContain('in all tasks of this call, the maximum is 20000')
    expect((await program.call('GET', '/tasks?status=pending')).body.count).toBe(1)
  }, 60_000)

  it('answers HEAD of the event stream at once', async () => {
    const headers = { Authorization: `Bearer ${program.token}` }
    const answer = await fetch(`${program.url}/api/v1/events`, { method: 'HEAD', headers })
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'text/event-stream'])
  })

  it('opens a bounded number of event streams for one caller', async () => {
    // Kept, because fetch closes the stream of an answer that nothing refers to.
    const answers: Response[] = []
    const open = async (signal: AbortSignal) => {
      const headers = { Authorization: `Bearer ${program.token}` }
      answers.push(await fetch(`${program.url}/api/v1/events`, { headers, signal }))
      return answers.at(-1)!.status
    }
    // The server may not have noticed yet that streams of the tests before were left.
    const stop = await vi.waitFor(
      async () => {
        const stopping = new AbortController()
        const statuses: number[] = []
        for (let n = 0; n < 100; n++) statuses.push(await open(stopping.signal))
        if (statuses.includes(429)) stopping.abort()
        expect(statuses).toEqual(Array(100).fill(200))
        return stopping
      },
      { timeout: 30_000, interval: 500 },
    )
    expect(await open(stop.signal)).toBe(429)
    expect(answers.length).toBeGreaterThan(100)
    stop.abort()
  }, 60_000)
})
