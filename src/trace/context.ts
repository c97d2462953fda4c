import {
  type Context,
  context,
  createTraceState,
  isSpanContextValid,
  ROOT_CONTEXT,
  type SpanContext,
  trace,
} from '@opentelemetry/api'
import { parseTraceparent, type TraceContext } from '../task/trace-context.ts'

/** Between what travels, W3C trace context, and what OpenTelemetry's API calls a context. */

/** Where the span is that it names; null if it names none. */
export function spanContextOf({ traceparent, tracestate }: TraceContext): SpanContext | null {
  const parent = parseTraceparent(traceparent)
  if (!parent) return null
  return { ...parent, isRemote: true, ...(tracestate ? { traceState: createTraceState(tracestate) } : {}) }
}

/** The other way; nothing for the span of a process that has no OpenTelemetry SDK. */
export function traceContextOf(span: SpanContext | undefined): TraceContext {
  if (!span || !isSpanContextValid(span)) return {}
  const flags = span.traceFlags.toString(16).padStart(2, '0')
  const traceparent = `00-${span.traceId}-${span.spanId}-${flags}`
  const tracestate = span.traceState?.serialize()
  return tracestate ? { traceparent, tracestate } : { traceparent }
}

/** The context that the code around is in, for another thread. */
export function activeTraceContext(): TraceContext {
  return traceContextOf(trace.getActiveSpan()?.spanContext())
}

/** Runs code in the context that came from elsewhere. */
export function within<T>(traceContext: TraceContext, run: () => T): T {
  const span = spanContextOf(traceContext)
  return span ? context.with(trace.setSpanContext(ROOT_CONTEXT, span), run) : run()
}

/** The context of a request: the span that an instrumented HTTP server has begun for it, or else its caller's. */
export function callersContext(headers: TraceContext): Context {
  const active = context.active()
  if (trace.getSpan(active)) return active
  const span = spanContextOf(headers)
  return span ? trace.setSpanContext(active, span) : active
}
