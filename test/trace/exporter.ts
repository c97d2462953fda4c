import { appendFileSync } from 'node:fs'
import { NodeTracerProvider, type ReadableSpan, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node'

/** Loaded with `--import` by a process of a test: each span that ends is a line of the file SPANS. */
const file = process.env.SPANS!
const line = (span: ReadableSpan) => ({
  name: span.name,
  pid: process.pid,
  traceId: span.spanContext().traceId,
  spanId: span.spanContext().spanId,
  parentId: span.parentSpanContext?.spanId ?? null,
})
new NodeTracerProvider({
  spanProcessors: [
    new SimpleSpanProcessor({
      export: (spans, done) => {
        appendFileSync(file, spans.map((span) => `${JSON.stringify(line(span))}\n`).join(''))
        done({ code: 0 })
      },
      shutdown: async () => undefined,
    }),
  ],
}).register()
