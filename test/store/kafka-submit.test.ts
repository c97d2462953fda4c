import { execFile, execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { promisify } from 'node:util'
import { pino } from 'pino'
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { z } from 'zod'
import { openQueue } from '../../src/queue/open.ts'
import type { Changed, Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { normalizeHandlers } from '../../src/worker/handlers.ts'
import { Worker } from '../../src/worker/worker.ts'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'

let kafka: RunningKafka
let redis: RunningRedis
let queue: Queue
let worker: Worker
const ran: unknown[] = []

beforeAll(async () => {
  ;[kafka, redis] = await Promise.all([startKafka(), startRedis()])
})

const url = () => `kafka://${kafka.address}?state=${redis.url}`
const open = async () => {
  queue = await openQueue(url())
  const run = async ({ payload }: { payload: unknown }) => {
    ran.push(payload)
    return { got: payload as never }
  }
  const strict = { run, payload: z.object({ to: z.string() }) }
  const handlers = normalizeHandlers({ echo: { run }, strict })
  worker = new Worker({ queue, handlers, logger: pino({ level: 'silent' }) })
  await worker.start()
}
const close = async () => {
  await worker.stop()
  await queue.close()
}
beforeEach(open)
afterEach(close)

/** Puts records into a topic as any program may: one a line. */
const kcat = (lines: string, ...args: string[]) =>
  execFileSync('kcat', ['-P', '-b', kafka.address, '-t', 'xq.submit', ...args], { input: lines })
/** All records of a topic as JSON: headers as pairs in a list, and the payload. */
const read = (topic: string) =>
  execFileSync('kcat', ['-C', '-b', kafka.address, '-t', topic, '-o', 'beginning', '-e', '-q', '-J'], {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  })
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { key: string; payload: string; headers?: string[] })
const until = (isSo: () => unknown) => vi.waitFor(isSo, { timeout: 20_000, interval: 50 })
const untilRan = (...payloads: unknown[]) => until(() => expect(ran).toEqual(expect.arrayContaining(payloads)))

describe('submission through the topic', () => {
  it('runs a task that was written as JSON, with its options', async () => {
    kcat('{"type": "echo", "payload": {"n": 1}, "tags": {"from": "kcat"}, "priority": 5, "idempotency_key": "one"}\n')
    await untilRan({ n: 1 })
    await until(async () => {
      const { tasks } = await queue.list({ tag: { key: 'from', value: 'kcat' }, limit: 10 })
      expect(tasks).toMatchObject([{ type: 'echo', priority: 5, status: 'success', idempotencyKey: 'one' }])
    })
  })

  it('is not stuck when all that was written is accepted', async () => {
    kcat('{"type": "echo", "payload": {"n": 9}}\n')
    await untilRan({ n: 9 })
    await until(async () => expect((await queue.stats()).stream.consumers).toMatchObject([{ pending: 0 }]))
    await setImmediate()
    const now = vi.spyOn(performance, 'now').mockReturnValue(performance.now() + 600_000)
    const { checks } = await queue.health().finally(() => now.mockRestore())
    expect(checks.filter(({ ok }) => !ok)).toEqual([])
  })

  it('runs a CloudEvent in structured form once, however often it arrives', async () => {
    const event = { specversion: '1.0', id: '7', source: '/shop', type: 'echo', data: { n: 2 }, maxretry: 1 }
    const structured = ['-H', 'content-type=application/cloudevents+json']
    kcat(`${JSON.stringify(event)}\n${JSON.stringify(event)}\n`, ...structured)
    kcat(`${JSON.stringify({ ...event, id: '8', data: { n: 3 } })}\n`, ...structured)
    await untilRan({ n: 2 }, { n: 3 })
    expect(ran.filter((payload) => (payload as { n: number }).n === 2)).toHaveLength(1)
  })

  it('runs a CloudEvent in binary form: attributes are headers, the value is the payload', async () => {
    const attributes = { specversion: '1.0', id: '9', source: '/shop', type: 'echo', priority: '3', group: 'acme' }
    const headers = Object.entries(attributes).flatMap(([name, value]) => ['-H', `ce_${name}=${value}`])
    kcat('{"n": 4}\n', ...headers, '-H', 'content-type=application/json')
    await untilRan({ n: 4 })
    const { tasks } = await queue.list({ group: 'acme', limit: 10 })
    expect(tasks).toMatchObject([{ priority: 3, idempotencyKey: '/shop#9' }])
  })

  it('distinguishes two CloudEvents whose source and id are equal when joined', async () => {
    const event = { specversion: '1.0', type: 'echo' }
    const events = [
      { ...event, source: 'urn:a#b', id: 'c', data: 'one of two' },
      { ...event, source: 'urn:a', id: 'b#c', data: 'two of two' },
      { ...event, source: `urn:${'long:'.repeat(100)}`, id: '1', data: 'a long source' },
    ]
    kcat(
      events
        .map((one) => `${JSON.stringify(one)}\n`)
        .join('')
        .repeat(2),
    )
    await untilRan('one of two', 'two of two', 'a long source')
    expect(ran.filter((payload) => payload === 'one of two')).toHaveLength(1)
    expect(ran.filter((payload) => payload === 'a long source')).toHaveLength(1)
  })

  it('accepts the CloudEvents of a batch, and rejects only invalid ones', async () => {
    const event = { specversion: '1.0', source: '/batch', type: 'echo' }
    const bytes = Buffer.from('{"n": "in Base64"}').toString('base64')
    const batch = [
      { ...event, id: '1', data: { n: 'of a batch' } },
      { ...event, id: '2', datacontenttype: 'application/json', data_base64: bytes },
      { ...event, id: '3', datacontenttype: 'image/png', data_base64: 'iVBORw==' },
      { ...event, id: '4', data: 1, data_base64: bytes },
      { ...event, id: '5', data_base64: '%%%' },
      { ...event, id: '' },
      'no event',
      { ...event, id: '6', idempotencykey: 'k'.repeat(300) },
    ]
    const before = read('xq.dead').length
    kcat(`${JSON.stringify(batch)}\n`, '-H', 'content-type=application/cloudevents-batch+json')
    await untilRan({ n: 'of a batch' }, { n: 'in Base64' }, 'iVBORw==')
    await until(() => expect(read('xq.dead')).toHaveLength(before + 5))
    const dead = read('xq.dead').slice(before)
    expect(dead.map(({ payload }) => JSON.parse(payload))).toEqual(batch.slice(3))
    const reasons = dead.map(({ headers = [] }) => headers[headers.indexOf('xqueue_reason') + 1])
    expect(reasons).toEqual([
      expect.stringContaining('data and data_base64'),
      expect.stringContaining('data_base64 of the CloudEvent is not Base64'),
      expect.stringContaining('the CloudEvent has no id'),
      expect.stringContaining('is not a CloudEvent'),
      expect.stringContaining('idempotency_key'),
    ])
  })

  it('rejects a task above a ceiling of its type, and runs the others', async () => {
    await queue.configureType('echo', { ceilings: { maxRetry: 1, processTimeoutMs: 9_000 } })
    // What this process knew of the type before is believed for a moment: from the first refusal on, the ceilings hold.
    for (let probe = 0, isRefused = false; !isRefused; probe++) {
      const tag = { key: 'probe', value: String(probe) }
      kcat(`${JSON.stringify({ type: 'echo', max_retry: 2, tags: { probe: tag.value } })}\n`)
      await until(async () => {
        isRefused = read('xq.dead').some(({ payload }) => payload.includes(`"probe":"${probe}"`))
        expect(isRefused || (await queue.list({ tag, limit: 1 })).tasks.length > 0).toBe(true)
      })
    }
    const task = { type: 'echo', tags: { from: 'ceilings' } }
    const lines = [{ ...task, max_retry: 2 }, { ...task, process_timeout: 0 }, task].map((one) => JSON.stringify(one))
    kcat(`${lines.join('\n')}\n`)
    const ofThese = () => read('xq.dead').filter(({ payload }) => payload.includes('"from":"ceilings"'))
    await until(() => expect(ofThese()).toHaveLength(2))
    // The records may lie in several partitions, which have no order among them.
    const reasons = ofThese().map(({ headers = [] }) => headers[headers.indexOf('xqueue_reason') + 1])
    expect(reasons.sort()).toEqual([
      expect.stringMatching(/max_retry is 2, above the ceiling of 1 .*POST \/api\/v1\/types\/echo/),
      expect.stringMatching(/process_timeout is 0 \(no limit\), above the ceiling of 9 s/),
    ])
    await until(async () => {
      const { tasks } = await queue.list({ tag: { key: 'from', value: 'ceilings' }, limit: 10 })
      expect(tasks).toMatchObject([{ maxRetry: 1, processTimeoutMs: 9_000, status: 'success' }])
    })
    await queue.configureType('echo', { ceilings: { maxRetry: null, processTimeoutMs: null } })
  })

  it('accepts records with more dependencies in total than one step may have', async () => {
    const ended = { type: 'echo', delayMs: 3_600_000, batch: 'awaited' }
    const after = (await queue.submit(Array.from({ length: 1_000 }, () => completeSpec(ended)))).map(
      ({ task }) => task.id,
    )
    const before = read('xq.dead').length
    const line = JSON.stringify({ type: 'echo', after, batch: 'waits' })
    kcat(`${line}\n`.repeat(25))
    await until(async () => expect((await queue.batch('waits'))?.counts.pending).toBe(25))
    expect(read('xq.dead')).toHaveLength(before)
    for (const batch of ['waits', 'awaited']) {
      let next: Changed['next'] = null
      do next = (await queue.cancel({ filter: { batch }, ...(next === null ? {} : { before: next }) })).next
      while (next !== null)
    }
  })

  it('continues the trace in the headers of the record', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    kcat('{"type": "echo", "tags": {"from": "a trace"}}\n', '-H', `traceparent=${traceparent}`)
    await until(async () => {
      const { tasks } = await queue.list({ tag: { key: 'traceparent', value: traceparent }, limit: 10 })
      expect(tasks).toMatchObject([{ tags: { from: 'a trace', traceparent }, status: 'success' }])
    })
  })

  it('writes invalid records to the dead-letter topic with the reason, and counts them', async () => {
    const poison = {
      'no JSON': /^invalid_request: the record is not valid JSON/,
      '{"type": "nobody"}': /^unknown_type: .*"nobody"/,
      '{"type": "echo", "colour": "red"}': /^invalid_request: colour/,
      '{"type": "echo", "payload": {"id": 9007199254740993}}': /payload\.id is 9007199254740993, .*as a string/,
      '{"type": "echo", "max_concurrency": 3}': /^type_owns_limits: /,
      '{"type": "strict", "payload": {"from": "ann"}}': /^invalid_payload: payload/,
      '{"type": "echo", "idempotency_key": "one", "payload": "another"}': /^idempotency_conflict: /,
    }
    const before = read('xq.dead').length
    kcat(`${Object.keys(poison).join('\n')}\n{"type": "echo", "payload": {"n": 5}}\n`)
    await untilRan({ n: 5 })
    const dead = await vi.waitFor(
      () => {
        const records = read('xq.dead')
        expect(records.length).toBeGreaterThanOrEqual(before + Object.keys(poison).length)
        return records
      },
      { timeout: 20_000 },
    )
    for (const [text, reason] of Object.entries(poison)) {
      const { headers = [] } = dead.find(({ payload }) => payload === text)!
      expect(headers[headers.indexOf('xqueue_reason') + 1]).toMatch(reason)
      expect(headers[headers.indexOf('xqueue_topic') + 1]).toBe('xq.submit')
    }
    await until(async () => {
      const { streams } = (await queue.stats()).stream
      expect(streams.find(({ name }) => name === 'xq.dead')!.length).toBe(dead.length)
      expect(streams.find(({ name }) => name === 'xq.submit')!.length).toBe(0)
    })
  })

  it('accepts submissions that arrive while no process runs, and none twice', async () => {
    await close()
    kcat('{"type": "echo", "payload": {"n": 6}}\n{"type": "echo", "payload": {"n": 7}}\n')
    await open()
    await untilRan({ n: 6 }, { n: 7 })
    await close()
    await open()
    kcat('{"type": "echo", "payload": {"n": 8}}\n')
    await untilRan({ n: 8 })
    expect(ran.filter((payload) => (payload as { n: number }).n === 6)).toHaveLength(1)
  })

  it('works with the example in Python, which waits for the outcome on its topic', async () => {
    const example = join(import.meta.dirname, '../../examples/kafka_submit.py')
    const args = [example, kafka.address, 'echo', '{"n": 9}']
    const { stdout } = await promisify(execFile)('/usr/bin/python3', args, { timeout: 40_000 })
    expect(JSON.parse(stdout)).toMatchObject({ status: 'success', result: { got: { n: 9 } } })
  })
})

describe('the topics', () => {
  it('have each change of status as a CloudEvent, and each finished task by its id', async () => {
    const [submitted] = await queue.submit([completeSpec({ type: 'echo', payload: { n: 10 } })])
    const { id } = submitted!.task
    await until(() => expect(read('xq.outcomes').map(({ key }) => key)).toContain(id))
    const outcome = JSON.parse(read('xq.outcomes').findLast(({ key }) => key === id)!.payload)
    expect(outcome).toMatchObject({
      id,
      type: 'echo',
      status: 'success',
      payload: { n: 10 },
      result: { got: { n: 10 } },
    })
    const events = read('xq.events').filter(({ key }) => key === id)
    expect(events.map(({ payload }) => JSON.parse(payload).type)).toEqual([
      'xqueue.task.pending',
      'xqueue.task.processing',
      'xqueue.task.success',
    ])
    expect(JSON.parse(events[0]!.payload)).toMatchObject({ specversion: '1.0', source: '/xqueue/xq', subject: id })
    expect(events[0]!.headers).toEqual(['content-type', 'application/cloudevents+json'])
  })

  it('have a submitted task once in its lane, also after its event was written', async () => {
    const [submitted] = await queue.submit([completeSpec({ type: 'echo', priority: 3, delayMs: 600_000 })])
    const { id } = submitted!.task
    await until(() => expect(read('xq.events').map(({ key }) => key)).toContain(id))
    expect(read('xq.lane.echo.3').filter(({ payload }) => payload.includes(id))).toHaveLength(1)
    await queue.cancel({ ids: [id] })
  })

  it('are listed with their partitions, lag and readers', async () => {
    await until(async () => {
      const { stream } = await queue.stats()
      expect(stream.consumers).toMatchObject([{ pending: 0 }])
      expect(stream.streams.find(({ name }) => name === 'xq.lane.echo.0')!.partitions).toHaveLength(3)
      expect(stream.streams.find(({ name }) => name === 'xq.lane.echo.0')!.length).toBe(0)
    })
  })
})
