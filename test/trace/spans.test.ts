import { SpanStatusCode, trace } from '@opentelemetry/api'
import { NodeSDK } from '@opentelemetry/sdk-node'
import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace'
import { afterAll, beforeAll, beforeEach, expect, it, vi } from 'vitest'
import { createClient, DoNotRetry, defineHandlers, RetryAfter } from '../../src/index.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const handlers = defineHandlers({
  quick: { run: async () => trace.getTracer('test').startActiveSpan('step', (span) => span.end()) },
  logs: { run: async (_, { log }) => log.info('at work') },
  refuse: {
    run: async () => {
      throw new DoNotRetry('never')
    },
  },
  again: {
    run: async (_, { attempt }) => {
      if (attempt === 1) throw new RetryAfter('1ms')
    },
  },
  hang: {
    run: (_, { signal }) => new Promise<void>((_resolve, reject) => signal.addEventListener('abort', reject)),
  },
})
const memory = new InMemorySpanExporter()
const none = { metricReaders: [], logRecordProcessors: [], resourceDetectors: [] }
const sdk = new NodeSDK({ spanProcessors: [new SimpleSpanProcessor({ exporter: memory })], ...none })
let server: Server

beforeAll(async () => {
  sdk.start()
  server = await startServer({ mqtt: 'off' }, handlers)
})
beforeEach(() => memory.reset())
afterAll(async () => {
  await server.stop()
  await sdk.shutdown()
})

const client = () => createClient<typeof handlers>(server.url)
const named = (name: string) => memory.getFinishedSpans().filter((span) => span.name === name)
const ended = (name: string, count = 1) =>
  vi.waitFor(() => {
    expect(named(name)).toHaveLength(count)
    return named(name)
  })
/** Code of a caller, within a span of its own. */
const asCaller = <T>(work: () => Promise<T>) =>
  trace.getTracer('test').startActiveSpan('caller', (span) => work().finally(() => span.end()))

it('is one trace from the typed client to the spans of the handler', async () => {
  const { id, tags } = await asCaller(() => client().submit('quick', {}))
  const [attempt] = await ended('process quick')
  const [caller, send, step] = [named('caller')[0]!, named('send quick')[0]!, named('step')[0]!]
  const traceIds = [caller, send, attempt!, step].map((span) => span.spanContext().traceId)
  expect(new Set(traceIds).size).toBe(1)
  expect(send.parentSpanContext?.spanId).toBe(caller.spanContext().spanId)
  expect(attempt!.parentSpanContext?.spanId).toBe(send.spanContext().spanId)
  expect(step.parentSpanContext?.spanId).toBe(attempt!.spanContext().spanId)
  expect(tags).toEqual({ traceparent: `00-${traceIds[0]}-${send.spanContext().spanId}-01` })
  expect(attempt!.attributes).toMatchObject({
    'messaging.system': 'xqueue',
    'messaging.operation.name': 'process',
    'messaging.operation.type': 'process',
    'messaging.destination.name': 'quick',
    'messaging.message.id': id,
    'xqueue.task.attempt': 1,
    'xqueue.task.delivery': 1,
    'xqueue.task.outcome': 'success',
  })
  expect(send.attributes).toMatchObject({ 'messaging.operation.type': 'send', 'messaging.message.id': id })
})

it('links a delayed task in a trace of its own', async () => {
  await client().submit('quick', {}, { delay: '20ms' })
  const [attempt] = await ended('process quick')
  const [send] = named('send quick')
  expect(attempt!.parentSpanContext).toBeUndefined()
  expect(attempt!.spanContext().traceId).not.toBe(send!.spanContext().traceId)
  expect(attempt!.links.map(({ context }) => context.spanId)).toEqual([send!.spanContext().spanId])
})

it('puts the first attempt into the trace of the submission, and links the retry', async () => {
  await client().submit('again', {})
  const [first, second] = await ended('process again', 2)
  const [send] = named('send again')
  expect(first!.parentSpanContext?.spanId).toBe(send!.spanContext().spanId)
  expect(second!.parentSpanContext).toBeUndefined()
  expect(second!.links[0]!.context.spanId).toBe(send!.spanContext().spanId)
  expect(second!.attributes).toMatchObject({ 'xqueue.task.attempt': 2 })
})

it('records a failure with its exception, and a time-out', async () => {
  await client().submit('refuse', {})
  await client().submit('hang', {}, { processTimeout: '20ms', maxRetry: 0 })
  const [[failed], [late]] = [await ended('process refuse'), await ended('process hang')]
  expect(failed!.status.code).toBe(SpanStatusCode.ERROR)
  expect(failed!.status.message).toContain('never')
  expect(failed!.attributes['error.type']).toBe('DoNotRetry')
  expect(failed!.events[0]).toMatchObject({ name: 'exception', attributes: { 'exception.message': 'never' } })
  expect(late!.status.code).toBe(SpanStatusCode.ERROR)
  expect(late!.attributes).toMatchObject({ 'error.type': 'timeout', 'xqueue.task.outcome': 'timeout' })
})

it('creates one span for the submission of a batch, the parent of all its tasks', async () => {
  await client().submitMany([
    { type: 'quick', payload: {} },
    { type: 'logs', payload: {} },
  ])
  const [attempts, [send]] = [[...(await ended('process quick')), ...(await ended('process logs'))], named('send')]
  expect(send!.attributes).toMatchObject({ 'messaging.batch.message_count': 2 })
  expect(attempts.map((span) => span.parentSpanContext?.spanId)).toEqual(Array(2).fill(send!.spanContext().spanId))
})

it('puts the ids of the attempt into its log lines', async () => {
  const { id } = await client().submit('logs', {})
  const [attempt] = await ended('process logs')
  const { traceId, spanId } = attempt!.spanContext()
  const lines = server.log.map((line) => JSON.parse(line)).filter(({ task_id }) => task_id === id)
  expect(lines).toMatchObject([{ msg: 'at work', trace_id: traceId, span_id: spanId }])
})

it('treats the same key from another trace as the same request, and keeps the first trace', async () => {
  const submit = () => asCaller(() => client().submit('quick', {}, { idempotencyKey: 'once', tags: { order: '7' } }))
  const [first, second] = [await submit(), await submit()]
  expect(second.id).toBe(first.id)
  expect(second.tags).toEqual(first.tags)
  expect(first.tags).toMatchObject({ order: '7' })
})
