import { type Attributes, context, ROOT_CONTEXT, type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import type { Submitted } from '../queue/queue.ts'
import type { Outcome } from '../task/outcome.ts'
import type { Task, TaskSpec } from '../task/task.ts'
import { describeError, errorOf } from '../task/thrown.ts'
import { type TraceContext, withTrace } from '../task/trace-context.ts'
import { callersContext, spanContextOf, traceContextOf } from './context.ts'

/**
 * The spans of a task, by the semantic conventions for messaging: `send` where it is submitted, `process` around each
 * attempt. Without an OpenTelemetry SDK in the process they are none, and cost next to nothing.
 */
/** The second is the conventions' new name of the first, which is what most backends look for today. */
const SYSTEM = { 'messaging.system': 'xqueue', 'messaging.system.name': 'xqueue' }
const tracer = trace.getTracer('xqueue')
/** Where each copy of the API, of its major version, leaves what has registered. */
const API = Symbol.for('opentelemetry.js.api.1')

/**
 * Submits within a span, whose context the tasks carry from then on. Where tracing is off they carry their caller's.
 *
 * @param headers those of the request
 */
export async function sending(
  headers: TraceContext,
  specs: readonly TaskSpec[],
  submit: (specs: TaskSpec[]) => Promise<Submitted[]>,
): Promise<Submitted[]> {
  const [first] = specs
  const type = specs.every((spec) => spec.type === first!.type) ? first!.type : null
  const attributes: Attributes = {
    ...SYSTEM,
    'messaging.operation.name': 'send',
    'messaging.operation.type': 'send',
    ...(type === null ? {} : { 'messaging.destination.name': type }),
    ...(specs.length > 1 ? { 'messaging.batch.message_count': specs.length } : {}),
  }
  const parent = callersContext(headers)
  const span = tracer.startSpan(nameOf('send', type), { kind: SpanKind.PRODUCER, attributes }, parent)
  const carried = traceContextOf(span.spanContext())
  try {
    const traced = specs.map((spec) => ({ ...spec, tags: withTrace(spec.tags, carried) }))
    const submitted = await context.with(trace.setSpan(parent, span), () => submit(traced))
    if (submitted.length === 1) span.setAttribute('messaging.message.id', submitted[0]!.task.id)
    return submitted
  } catch (error) {
    fail(span, describeError(error), error)
    throw error
  } finally {
    span.end()
  }
}

/**
 * The span of an attempt. It is a child of the submission if the task runs at once. A delayed or retried attempt starts
 * its own trace with a link, so that no trace lasts for days. Null without an SDK.
 */
export function startProcessing(task: Task): Span | null {
  if (!isTracing()) return null
  const sent = spanContextOf(task.tags)
  const atOnce = task.runAt <= task.createdAt && task.deliveries <= 1
  const attributes: Attributes = {
    ...SYSTEM,
    'messaging.operation.name': 'process',
    'messaging.operation.type': 'process',
    'messaging.destination.name': task.type,
    'messaging.message.id': task.id,
    'xqueue.task.attempt': task.attempts + 1,
    'xqueue.task.delivery': task.deliveries,
  }
  const options = { kind: SpanKind.CONSUMER, attributes }
  const name = nameOf('process', task.type)
  if (!sent) return tracer.startSpan(name, options, ROOT_CONTEXT)
  const links = [{ context: sent }]
  if (atOnce) return tracer.startSpan(name, { ...options, links }, trace.setSpanContext(ROOT_CONTEXT, sent))
  return tracer.startSpan(name, { ...options, links }, ROOT_CONTEXT)
}

/** Whether an SDK has registered for spans or for the context of calls; it may come later. */
function isTracing(): boolean {
  const api = (globalThis as { [API]?: { trace?: unknown; context?: unknown } })[API]
  return api !== undefined && (api.trace !== undefined || api.context !== undefined)
}

/** Ends it with what the attempt ended with; null when its lease was lost. */
export function endProcessing(span: Span, outcome: Outcome | null, thrown?: unknown): void {
  if (span.isRecording()) {
    span.setAttribute('xqueue.task.outcome', outcome?.kind ?? 'lost')
    if (outcome?.kind === 'failure') fail(span, outcome.error, thrown)
    if (outcome?.kind === 'timeout') {
      span.setAttribute('error.type', 'timeout')
      span.setStatus({ code: SpanStatusCode.ERROR, message: 'the attempt timed out' })
    }
  }
  span.end()
}

/** Runs a handler in the context of its attempt, so that its own spans nest. */
export function inSpan<T>(span: Span, run: () => T): T {
  return context.with(trace.setSpan(ROOT_CONTEXT, span), run)
}

/** What the log lines of an attempt say of its span. */
export function logFields(span: Span | null): { trace_id?: string; span_id?: string } {
  if (!span?.isRecording()) return {}
  const { traceId, spanId } = span.spanContext()
  return { trace_id: traceId, span_id: spanId }
}

/** Has the SDK send what it holds: before the process ends, because it collects spans for seconds. */
export async function flushSpans(): Promise<void> {
  // Of another copy of the API, it is no instance of our class.
  const registered = trace.getTracerProvider() as Flushable & { getDelegate?: () => Flushable }
  await (registered.getDelegate?.() ?? registered).forceFlush?.()
}

interface Flushable {
  forceFlush?: () => Promise<void>
}

/**
 * The version of an OpenTelemetry API whose SDK this process cannot use, or null. The API hands spans to the SDK of
 * another copy of itself only if that has the same major version and is not older: else it does nothing, silently.
 */
export function unusableApi(): string | null {
  const places = Object.getOwnPropertySymbols(globalThis).filter(({ description }) =>
    description?.startsWith('opentelemetry.js.api.'),
  )
  const all = places.map((place) => (globalThis as Record<symbol, unknown>)[place] as Registered | undefined)
  const ours = trace.getTracerProvider()
  return all.find((registered) => registered?.trace && registered.trace !== ours)?.version ?? null
}

/** What each copy of the API leaves for all others of its major version. */
interface Registered {
  version: string
  trace?: unknown
}

function nameOf(operation: string, type: string | null): string {
  return type === null ? operation : `${operation} ${type}`
}

function fail(span: Span, message: string, thrown: unknown): void {
  const error = thrown === undefined ? null : errorOf(thrown)
  if (error) span.recordException(error)
  span.setAttribute('error.type', error?.name ?? '_OTHER')
  span.setStatus({ code: SpanStatusCode.ERROR, message: message.split('\n', 1)[0]! })
}
