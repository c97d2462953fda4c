import { Type } from 'typebox'
import { CEILING_RANGES, type CeilingChanges } from '../task/ceilings.ts'
import { parseDurationMs } from '../task/duration.ts'
import { invalidField } from '../task/errors.ts'
import { durationOf } from '../task/task-input.ts'

/** How a type is declared: part of types.ts. */

const ceiling = (field: keyof typeof CEILING_RANGES, description?: string) => {
  const [minimum, maximum] = CEILING_RANGES[field]
  return Type.Optional(
    Type.Unsafe<number | null>({
      type: ['integer', 'null'],
      minimum,
      maximum,
      ...(description ? { description } : {}),
    }),
  )
}
const timeoutCeiling = (title: string, field: 'queueTimeoutMs' | 'processTimeoutMs') => {
  const [least, most] = CEILING_RANGES[field]
  const duration = durationOf({ title, least, most })
  return Type.Optional(Type.Unsafe<number | string | null>({ oneOf: [duration, { type: 'null' }] }))
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
          queue_timeout: timeoutCeiling('QueueTimeoutCeiling', 'queueTimeoutMs'),
          process_timeout: timeoutCeiling('ProcessTimeoutCeiling', 'processTimeoutMs'),
          payload_bytes: ceiling('payloadBytes', 'Size of the payload as JSON'),
        },
        { additionalProperties: false, description: 'Missing fields stay unchanged; null removes a ceiling' },
      ),
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
}

/** @throws XQueueError `invalid_request` */
export function ceilingsOf(input: NonNullable<TypeInput['ceilings']>): CeilingChanges {
  const ms = (name: 'queue_timeout' | 'process_timeout', [least, most]: readonly [number, number]) => {
    const value = input[name]
    if (value === null || value === undefined) return value
    const path = `ceilings.${name}`
    let parsed: number
    try {
      parsed = parseDurationMs(value)
    } catch (error) {
      throw invalidField(path, (error as Error).message)
    }
    if (parsed < least || parsed > most) throw invalidField(path, `is ${value}: it must be from 1 ms to 366 days`)
    return parsed
  }
  const changes = {
    maxRetry: input.max_retry,
    priority: input.priority,
    queueTimeoutMs: ms('queue_timeout', CEILING_RANGES.queueTimeoutMs),
    processTimeoutMs: ms('process_timeout', CEILING_RANGES.processTimeoutMs),
    payloadBytes: input.payload_bytes,
  }
  return Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined))
}
