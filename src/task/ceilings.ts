import type { FieldError } from './errors.ts'
import { type SpecDefaults, TASK_DEFAULTS, TASK_LIMITS, type TaskSpec } from './task.ts'

/** Upper bounds of the values in a submission for a type. A missing field has no ceiling. */
export interface Ceilings {
  maxRetry?: number
  priority?: number
  queueTimeoutMs?: number
  processTimeoutMs?: number
  payloadBytes?: number
}

/** Missing fields stay unchanged; null removes a ceiling. */
export type CeilingChanges = { [Field in keyof Ceilings]?: number | null }

/** The range of each ceiling. A time-out of 0 means no limit, so it cannot be a ceiling. */
export const CEILING_RANGES: Readonly<Record<keyof Ceilings, readonly [least: number, most: number]>> = {
  maxRetry: [0, TASK_LIMITS.retryMax],
  priority: [0, TASK_LIMITS.priorityMax],
  queueTimeoutMs: [1, TASK_LIMITS.durationMsMax],
  processTimeoutMs: [1, TASK_LIMITS.durationMsMax],
  payloadBytes: [1, TASK_LIMITS.payloadBytesMax],
}

/** The ceilings after a change. */
export function changedCeilings(before: Ceilings, change: CeilingChanges): Ceilings {
  const changed = Object.entries({ ...before, ...change }).filter(([, value]) => value !== null)
  return Object.fromEntries(changed) as Ceilings
}

/** A change that turns any ceilings into these. */
export function changeTo(ceilings: Ceilings): CeilingChanges {
  const none = Object.fromEntries(Object.keys(CEILING_RANGES).map((field) => [field, null]))
  return { ...none, ...ceilings }
}

/** Default for confined callers if neither operator nor handler sets one, so that no task holds a slot for ever. */
const PROCESS_TIMEOUT_CONFINED_MS = 86_400_000

/** Those that a handler sets. */
const SET_BY_HANDLER = ['maxRetry', 'queueTimeoutMs', 'processTimeoutMs'] as const
const TIMEOUTS: readonly string[] = ['queueTimeoutMs', 'processTimeoutMs']
const API_NAMES: Readonly<Record<keyof Ceilings, string>> = {
  maxRetry: 'max_retry',
  priority: 'priority',
  queueTimeoutMs: 'queue_timeout',
  processTimeoutMs: 'process_timeout',
  payloadBytes: 'payload',
}

/**
 * The ceilings for a caller that cannot overrule the handler: those set by operators, otherwise the handler's own
 * values. A handler's time-out of 0 sets none.
 */
export function confinedCeilings(set: Ceilings, handler: SpecDefaults): Ceilings {
  const ofHandler: Ceilings = { processTimeoutMs: PROCESS_TIMEOUT_CONFINED_MS }
  for (const field of SET_BY_HANDLER) {
    const value = handler[field]
    if (value === 0 && TIMEOUTS.includes(field)) delete ofHandler[field]
    else if (value !== undefined) ofHandler[field] = value
  }
  return { ...ofHandler, ...set }
}

/** Defaults lowered to the ceilings, so that a submission without values is never refused. */
export function defaultsWithin(ceilings: Ceilings, handler: SpecDefaults): SpecDefaults {
  const defaults: SpecDefaults = { ...handler }
  for (const field of SET_BY_HANDLER) {
    const ceiling = ceilings[field]
    if (ceiling !== undefined && isAbove(field, handler[field] ?? TASK_DEFAULTS[field], ceiling)) {
      defaults[field] = ceiling
    }
  }
  return defaults
}

/** One error for each field of a task that is above its ceiling. */
export function aboveCeilings(spec: TaskSpec, payloadBytes: number, ceilings: Ceilings, at: string): FieldError[] {
  const errors: FieldError[] = []
  for (const field in ceilings) {
    const name = field as keyof Ceilings
    const value = name === 'payloadBytes' ? payloadBytes : spec[name]
    const ceiling = ceilings[name]!
    if (!isAbove(name, value, ceiling)) continue
    const remedy = `use a lower value, or raise the ceiling with POST /api/v1/types/${spec.type}`
    const what = `${said(name, value)}, above the ceiling of ${inUnit(name, ceiling)}`
    errors.push({ path: at + API_NAMES[name], message: `${what} for tasks of the type "${spec.type}": ${remedy}` })
  }
  return errors
}

function isAbove(field: keyof Ceilings, value: number, ceiling: number): boolean {
  return value > ceiling || (value === 0 && TIMEOUTS.includes(field))
}

function said(field: keyof Ceilings, value: number): string {
  if (field === 'payloadBytes') return `has ${value} bytes`
  return value === 0 && TIMEOUTS.includes(field) ? 'is 0 (no limit)' : `is ${inUnit(field, value)}`
}

function inUnit(field: keyof Ceilings, value: number): string {
  if (field === 'payloadBytes') return `${value} bytes`
  return TIMEOUTS.includes(field) ? `${value / 1_000} s` : String(value)
}
