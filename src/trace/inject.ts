/**
 * The global object of OpenTelemetry's API, which every copy and version 1.x of it shares: there the SDK registers what
 * it has. It is used directly, because loading the API takes 30 ms, and `xqueue/client` imports nothing.
 */
const API = Symbol.for('opentelemetry.js.api.1')

interface RegisteredApi {
  context?: { active(): unknown }
  propagation?: { inject(context: unknown, carrier: Record<string, string>, setter: typeof SETTER): void }
}

const SETTER = {
  set: (headers: Record<string, string>, name: string, value: string) => {
    headers[name] = value
  },
}

/** Adds the active trace context to the headers of a call. */
export function injectContext(headers: Record<string, string>): void {
  Object.assign(headers, contextHeaders())
}

/** The headers of that context; null without an SDK. */
export function contextHeaders(): Record<string, string> | null {
  const api = (globalThis as { [API]?: RegisteredApi })[API]
  if (!api) return null
  const headers: Record<string, string> = {}
  // An instrumented `fetch` adds the headers itself, and two `traceparent` headers are invalid.
  if (isFetchTraced() || !api.context) return headers
  api.propagation?.inject(api.context.active(), headers, SETTER)
  return headers
}

/** Whether calls of `fetch` are traced; then they carry the trace context already. */
export function isFetchTraced(): boolean {
  const channels = globalThis.process?.getBuiltinModule?.('node:diagnostics_channel')
  return channels?.hasSubscribers('undici:request:create') ?? false
}
