/**
 * W3C trace context of a task, in two tags named like the headers. It is therefore part of stores, logs, migrations,
 * and the leases of workers in other languages.
 */
export interface TraceContext {
  traceparent?: string | undefined
  tracestate?: string | undefined
}

/** A parsed `traceparent`. */
export interface TraceParent {
  traceId: string
  spanId: string
  traceFlags: number
}

const TRACEPARENT = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/
/** The minimum length that the standard requires to propagate, which is our maximum. */
const TRACESTATE_CHARS_MAX = 512

/** Null for an invalid value, which is ignored: a trace must never cause a refusal. */
export function parseTraceparent(text: string | undefined): TraceParent | null {
  const [, version, traceId, spanId, flags, more] = TRACEPARENT.exec(text ?? '') ?? []
  if (!traceId || !spanId || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return null
  // Later versions may append fields after the flags; the first may not.
  if (version === 'ff' || (version === '00' && more !== undefined)) return null
  return { traceId, spanId, traceFlags: Number.parseInt(flags!, 16) }
}

/** The tags of a task with this context; a context in the caller's own tags takes precedence. */
export function withTrace(tags: Readonly<Record<string, string>>, { traceparent, tracestate }: TraceContext) {
  if (tags.traceparent !== undefined || parseTraceparent(traceparent) === null) return tags
  const { tracestate: _, ...own } = tags
  const isShort = tracestate && tracestate.length <= TRACESTATE_CHARS_MAX
  return { ...own, traceparent: traceparent!, ...(isShort ? { tracestate } : {}) }
}

/** The tags without the context, because a repeated submission may belong to another trace. */
export function withoutTrace(tags: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  if (tags.traceparent === undefined && tags.tracestate === undefined) return tags
  const { traceparent: _, tracestate: __, ...own } = tags
  return own
}
