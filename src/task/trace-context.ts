/**
 * W3C trace context, as a task carries it: in two of its tags, named as the headers are. So it is in whatever a task is
 * in: stores, logs, migrations, what workers in other languages are handed.
 */
export interface TraceContext {
  traceparent?: string | undefined
  tracestate?: string | undefined
}

/** What a `traceparent` says. */
export interface TraceParent {
  traceId: string
  spanId: string
  traceFlags: number
}

const TRACEPARENT = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/
/** What the standard wants to be passed on at least, and what we pass on at most. */
const TRACESTATE_CHARS_MAX = 512

/** Null for what the standard calls invalid, which is ignored: a trace must never be why a task is refused. */
export function parseTraceparent(text: string | undefined): TraceParent | null {
  const [, version, traceId, spanId, flags, more] = TRACEPARENT.exec(text ?? '') ?? []
  if (!traceId || !spanId || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return null
  // Later versions may say more behind the flags; the first may not.
  if (version === 'ff' || (version === '00' && more !== undefined)) return null
  return { traceId, spanId, traceFlags: Number.parseInt(flags!, 16) }
}

/** The tags of a task that came with this context; a context that the caller has put among its tags stays. */
export function withTrace(tags: Readonly<Record<string, string>>, { traceparent, tracestate }: TraceContext) {
  if (tags.traceparent !== undefined || parseTraceparent(traceparent) === null) return tags
  const { tracestate: _, ...own } = tags
  const isShort = tracestate && tracestate.length <= TRACESTATE_CHARS_MAX
  return { ...own, traceparent: traceparent!, ...(isShort ? { tracestate } : {}) }
}

/** The tags without it: the same task may be asked for again from another trace. */
export function withoutTrace(tags: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  if (tags.traceparent === undefined && tags.tracestate === undefined) return tags
  const { traceparent: _, tracestate: __, ...own } = tags
  return own
}
