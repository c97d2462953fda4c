import { COUNTS, type Ring } from '../queue/queue.ts'
import { Type } from '../task/json-schema.ts'
import { TypeNameSchema } from '../task/task-input.ts'
import { isoTime } from '../task/task-json.ts'
import { count, nullable, seconds, time, titled } from './fields.ts'
import type { Route, ServerContext } from './route.ts'
import { Percentiles, percentilesJson } from './type-json.ts'

/** Each range with the ring that covers it, and its length. */
const RANGES: Readonly<Record<string, { ring: Ring; ms: number }>> = {
  '1h': { ring: '10s', ms: 3_600_000 },
  '24h': { ring: '5m', ms: 86_400_000 },
  '7d': { ring: '2h', ms: 7 * 86_400_000 },
  '30d': { ring: '2h', ms: 30 * 86_400_000 },
}

const MEANINGS: Readonly<Record<(typeof COUNTS)[number], string>> = {
  submitted: 'Tasks accepted',
  started: 'Attempts started',
  success: 'Tasks that ended in `success`',
  failed: 'Tasks that ended in `failed`',
  canceled: 'Tasks that ended in `canceled`',
  timeout: 'Tasks that ended in `timeout`',
  errors: 'Attempts that failed or timed out, also those that were retried',
}

const Slot = Type.Object(
  {
    at: time('Start of the slot'),
    ...Object.fromEntries(COUNTS.map((name) => [name, count(MEANINGS[name])])),
    wait: nullable(Percentiles, 'From `run_at` to the start, estimated to within 41 %; null: no starts'),
    run: nullable(Percentiles, 'From the start of an attempt to its end, estimated to within 41 %; null: none'),
  },
  { title: 'HistorySlot' },
)

const History = titled(
  'History',
  Type.Object({
    range: { enum: Object.keys(RANGES) },
    slot: seconds('Length of a slot'),
    slots: Type.Array(Slot, { description: 'All slots of the range, oldest first; the last one is not over yet' }),
  }),
)

/** /api/v1/stats/history: figures over time, which the store keeps. */
export function historyRoutes({ queue }: ServerContext): Route[] {
  return [
    {
      method: 'GET',
      url: '/api/v1/stats/history',
      scope: 'read',
      summary: 'Get figures of a type, or of all types, over time',
      querystring: Type.Object(
        {
          range: Type.Optional({ enum: Object.keys(RANGES), default: '1h' }),
          type: Type.Optional(TypeNameSchema),
        },
        { additionalProperties: false },
      ),
      answers: { 200: History },
      handler: async (request) => {
        const { range = '1h', type = null } = request.query as { range?: string; type?: string }
        const { ring, ms } = RANGES[range]!
        const { slotMs, slots } = await queue.history(ring, type)
        return {
          range,
          slot: slotMs / 1_000,
          slots: slots.slice(-ms / slotMs).map(({ at, waitMs, runMs, ...counts }) => ({
            at: isoTime(at),
            ...counts,
            wait: percentilesJson(waitMs),
            run: percentilesJson(runMs),
          })),
        }
      },
    },
  ]
}
