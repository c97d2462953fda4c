import { NodeSDK } from '@opentelemetry/sdk-node'
import { BatchSpanProcessor, type SpanExporter, TraceIdRatioBasedSampler } from '@opentelemetry/sdk-trace'
import { openQueue } from '../../src/queue/open.ts'
import { sending } from '../../src/trace/spans.ts'
import type { OpenContender } from './contender.ts'
import { contend } from './xqueue.ts'

/** What takes spans and throws them away: what a collector costs is not ours. */
const exporter: SpanExporter = {
  export: (_spans, done) => done({ code: 0 }),
  shutdown: async () => undefined,
}
const SPANS_HELD = 100_000

/** The embedded engine with an SDK that records this share of the traces; with `null` without one. */
export async function traced(file: string, share: number | null) {
  if (share !== null) {
    const spanProcessors = [new BatchSpanProcessor({ exporter, maxQueueSize: SPANS_HELD })]
    const sampler = new TraceIdRatioBasedSampler(share)
    new NodeSDK({ spanProcessors, sampler, metricReaders: [], logRecordProcessors: [], resourceDetectors: [] }).start()
  }
  const engine = await openQueue(`sqlite:${file}`, { retention: { ageMs: 86_400_000, countMax: 10_000_000 } })
  return contend(engine, { accept: (specs) => sending({}, specs, (asked) => engine.submit(asked)) })
}

export const open: OpenContender = (file) => traced(file, 1)
