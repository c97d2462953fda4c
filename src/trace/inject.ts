import { channel } from 'node:diagnostics_channel'

/** Where OpenTelemetry's API, of any 1.x, keeps the SDK that was registered. */
const REGISTERED = Symbol.for('opentelemetry.js.api.1')
/** An instrumented `fetch` adds the headers itself, and a `traceparent` that is there twice says nothing. */
const instrumentedFetch = channel('undici:request:create')

/**
 * Adds the context that the code around is in to the headers of a call. The API is only loaded where there is an SDK:
 * it takes 30 ms, which each command of the command line would wait for in vain.
 */
export async function injectContext(headers: Record<string, string>): Promise<void> {
  Object.assign(headers, await contextHeaders())
}

/** The headers of that context; null where there is none to add. */
export async function contextHeaders(): Promise<Record<string, string> | null> {
  if (!(REGISTERED in globalThis)) return null
  if (instrumentedFetch.hasSubscribers) return {}
  const { context, propagation } = await import('@opentelemetry/api')
  const headers: Record<string, string> = {}
  propagation.inject(context.active(), headers)
  return headers
}
