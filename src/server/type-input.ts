import { CEILING_RANGES, type CeilingChanges } from '../task/ceilings.ts'
import { parseDurationMs } from '../task/duration.ts'
import { invalidField } from '../task/errors.ts'
import { Type } from '../task/json-schema.ts'
import type { RetentionChanges } from '../task/retention.ts'
import { FINAL_STATUSES, type FinalStatus } from '../task/status.ts'
import { TASK_LIMITS } from '../task/task.ts'
import { durationOf } from '../task/task-input.ts'

/** Declarations of types: part of types.ts. */

const ceiling = (field: keyof typeof CEILING_RANGES, description?: string) => {
  const [minimum, maximum] = CEILING_RANGES[field]
  return Type.Optional({
    type: ['integer', 'null'],
    minimum,
    maximum,
    ...(description ? { description } : {}),
  })
}
const durationOrNull = (title: string, least: number) => {
  const duration = durationOf({ title, least, most: TASK_LIMITS.durationMsMax })
  return Type.Optional({ oneOf: [duration, { type: 'null' }] })
}
const TITLES: Readonly<Record<FinalStatus, string>> = {
  success: 'RetentionOfSuccess',
  failed: 'RetentionOfFailed',
  canceled: 'RetentionOfCanceled',
  timeout: 'RetentionOfTimeout',
}

export const TypeInputSchema = Type.Object(
  {
    declared: Type.Optional(
      Type.Boolean({ default: true, description: 'false: the type is known only while workers run it' }),
    ),
    ceilings: Type.Optional(
      Type.Object(
        {
          max_retry: ceiling('maxRetry'),
          priority: ceiling('priority'),
          queue_timeout: durationOrNull('QueueTimeoutCeiling', 1),
          process_timeout: durationOrNull('ProcessTimeoutCeiling', 1),
          payload_bytes: ceiling('payloadBytes', 'Size of the payload as JSON'),
        },
        { additionalProperties: false, description: 'Missing fields stay unchanged; null removes a ceiling' },
      ),
    ),
    retention: Type.Optional(
      Type.Object(Object.fromEntries(FINAL_STATUSES.map((status) => [status, durationOrNull(TITLES[status], 0)])), {
        additionalProperties: false,
        description:
          'How long to keep tasks that end from now on, by their status; 0 deletes them at once. ' +
          "Missing fields stay unchanged; null uses the handler's retention, or the server's retention-age",
      }),
    ),
  },
  { additionalProperties: false },
)

export interface TypeInput {
  declared?: boolean
  ceilings?: {
    max_retry?: number | null
    priority?: number | null
    queue_timeout?: number | string | null
    process_timeout?: number | string | null
    payload_bytes?: number | null
  }
  retention?: { [Status in FinalStatus]?: number | string | null }
}

/** @throws XQueueError `invalid_request` */
export function ceilingsOf(input: NonNullable<TypeInput['ceilings']>): CeilingChanges {
  const ms = (name: 'queue_timeout' | 'process_timeout') => {
    const parsed = durationMs(input[name], `ceilings.${name}`)
    if (parsed === 0) throw invalidField(`ceilings.${name}`, `is ${input[name]}: it must be from 1 ms to 366 days`)
    return parsed
  }
  const changes = {
    maxRetry: input.max_retry,
    priority: input.priority,
    queueTimeoutMs: ms('queue_timeout'),
    processTimeoutMs: ms('process_timeout'),
    payloadBytes: input.payload_bytes,
  }
  return Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined))
}

/** @throws XQueueError `invalid_request` */
export function retentionOf(input: NonNullable<TypeInput['retention']>): RetentionChanges {
  const changes = Object.entries(input).map(([status, value]) => [status, durationMs(value, `retention.${status}`)])
  return Object.fromEntries(changes)
}

function durationMs(value: number | string | null | undefined, path: string): number | null | undefined {
  if (value === null || value === undefined) return value
  try {
    return parseDurationMs(value)
  } catch (error) {
    throw invalidField(path, (error as Error).message)
  }
}
