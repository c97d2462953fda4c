import { trace } from '@opentelemetry/api'
import { defineHandlers } from '../../src/index.ts'

const step = async () => trace.getTracer('test').startActiveSpan('step', async (span) => span.end())

export default defineHandlers({
  traced: { run: step },
  last: { run: async () => undefined },
  isolated: { isolate: true, run: step },
})
