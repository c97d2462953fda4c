import { setTimeout as sleep } from 'node:timers/promises'
import { type Static, Type } from 'typebox'
import type { Handler } from '../src/worker/handler.ts'
import { standard } from './schema.ts'

/** Reports are no closer than that, and of a long sleep there are a hundred. */
const REPORT_MS_MIN = 100
const REPORTS_MAX = 100

const payload = Type.Object({
  duration: Type.Optional(Type.Number({ minimum: 0, maximum: 3_600, default: 1, description: 'Seconds to sleep' })),
  message: Type.Optional(Type.String({ maxLength: 10_000, description: 'Returned in the result' })),
})
type Example = Static<typeof payload>

/** Sleeps for `duration` seconds and reports progress on the way: something to watch, cancel and time out. */
export const example: Handler<Example, { slept: number; message?: string }> = {
  concurrency: 3,
  payload: standard(payload),
  run: async (task, { signal, progress }) => {
    const { duration = 1, message } = task.payload
    const endMs = duration * 1_000
    const stepMs = Math.max(REPORT_MS_MIN, endMs / REPORTS_MAX)
    const startedAt = performance.now()
    for (let sleptMs = 0; sleptMs < endMs; ) {
      const nextMs = Math.min(sleptMs + stepMs, endMs)
      await sleep(nextMs - (performance.now() - startedAt), undefined, { signal })
      sleptMs = nextMs
      progress((sleptMs * 100) / endMs)
    }
    return { slept: duration, ...(message === undefined ? {} : { message }) }
  },
}
