import { setTimeout as sleep } from 'node:timers/promises'
import { Type } from 'typebox'
import type { Handler } from '../src/worker/handlers.ts'
import { standard } from './schema.ts'

const STEPS = 10

const payload = Type.Object({
  duration: Type.Number({ minimum: 0, maximum: 3_600, default: 1, description: 'Seconds to sleep' }),
})

/** Sleeps for `duration` seconds and reports progress on the way: something to watch, cancel and time out. */
export const example: Handler<{ duration: number }, { slept: number }> = {
  concurrency: 3,
  payload: standard(payload),
  run: async (task, { signal, progress }) => {
    const { duration } = task.payload
    for (let step = 1; step <= STEPS; step++) {
      await sleep((duration * 1_000) / STEPS, undefined, { signal })
      progress((step * 100) / STEPS)
    }
    return { slept: duration }
  },
}
