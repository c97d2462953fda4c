import { XQueueError } from './errors.ts'
import type { Json } from './json.ts'
import type { Task } from './task.ts'

/** The fields of a task that can be redacted. */
const FIELDS = ['payload', 'result', 'progress', 'error', 'tags', 'log'] as const
type Field = (typeof FIELDS)[number]
type Redactable = Partial<Pick<Task, Exclude<Field, 'log'>> & { log: object }>

/** A field, and the names (or `*` for each) of the path to a redacted value. */
interface Hidden {
  field: Field
  steps: readonly string[]
}

export const REDACTED = '[redacted]'
const NAME = /^[^\s.,]+$/

/** Replaces redacted values with `[redacted]`. A value without any is returned unchanged. */
export type Redact = <T extends Redactable>(shown: T) => T

/**
 * Reads paths such as `payload.password` or `payload.cards.*.number`; `*` is each field of an object or each element of
 * a list.
 * @throws XQueueError `invalid_config`
 */
export function redactionOf(paths: readonly string[]): Redact {
  const hidden = paths.map(readPath)
  return (shown) => {
    let redacted = shown
    for (const { field, steps } of hidden) {
      const before = redacted[field] as Json | undefined
      if (before === undefined || before === null) continue
      const after = hide(before, steps)
      if (after !== before) redacted = { ...redacted, [field]: after }
    }
    return redacted
  }
}

function readPath(path: string): Hidden {
  const [field, ...steps] = path.split('.')
  if (FIELDS.includes(field as Field) && steps.every((step) => NAME.test(step))) return { field: field as Field, steps }
  const allowed = `begin the path with one of ${FIELDS.join(', ')}, as in payload.password or payload.cards.*.number`
  throw new XQueueError('invalid_config', `redact contains the path "${path}": ${allowed}`)
}

/** Copies only the objects on the path to a redacted value. */
function hide(value: Json, steps: readonly string[]): Json {
  const [step, ...rest] = steps
  if (step === undefined) return REDACTED
  if (typeof value !== 'object' || value === null) return value
  const keys = step === '*' ? Object.keys(value) : Object.hasOwn(value, step) ? [step] : []
  let copy: Record<string, Json> | Json[] | undefined
  for (const key of keys) {
    const before = (value as Record<string, Json>)[key]!
    const after = hide(before, rest)
    if (after === before) continue
    copy ??= Array.isArray(value) ? [...value] : { ...value }
    // Also a field named __proto__ is a field.
    Object.defineProperty(copy, key, { value: after, enumerable: true, writable: true, configurable: true })
  }
  return copy ?? value
}
