import { type Ceilings, changedCeilings } from '../task/ceilings.ts'
import type { Json } from '../task/json.ts'
import { changedRetention, NO_RETENTION, type TypeRetention } from '../task/retention.ts'
import { RETRY_DEFAULTS, retryDelaysMs } from '../task/retry.ts'
import type { SpecDefaults } from '../task/task.ts'
import type { GroupTurns, Rate, TypeChange } from './type-info.ts'

/** The settings of a type as stores keep them. A store compares and replaces them; how they change is decided here. */
export interface TypeRecord {
  /** Known with or without workers. */
  declared: boolean
  paused: boolean
  /** No task starts before this time; null or in the past: it is not held. */
  heldUntil: number | null
  maxConcurrency: number | null
  groupConcurrency: number | null
  groupTurns: GroupTurns
  rate: Rate | null
  /** The limits that an operator has set: a handler no longer changes them. */
  setByOperator: Readonly<Record<Limit, boolean>>
  /** The delays before the retries, see `retryDelaysMs`. */
  delaysMs: readonly number[]
  jitter: number
  payloadSchema: Json
  defaults: SpecDefaults
  ceilings: Ceilings
  retention: TypeRetention
}

type Limit = 'maxConcurrency' | 'groupConcurrency' | 'groupTurns' | 'rate'

/** A type of which only the name is known. */
export const NEW_TYPE: TypeRecord = {
  declared: false,
  paused: false,
  heldUntil: null,
  maxConcurrency: null,
  groupConcurrency: null,
  groupTurns: 'tasks',
  rate: null,
  setByOperator: { maxConcurrency: false, groupConcurrency: false, groupTurns: false, rate: false },
  delaysMs: retryDelaysMs(RETRY_DEFAULTS),
  jitter: RETRY_DEFAULTS.jitter,
  payloadSchema: null,
  defaults: {},
  ceilings: {},
  retention: NO_RETENTION,
}

/** The settings of a type after a change: what a handler declares, then what an operator sets. */
export function changedType(before: TypeRecord, change: TypeChange): TypeRecord {
  const { handler, ceilings = {}, retention = {} } = change
  const { setByOperator: by } = before
  const fromHandler = handler && { ...handler, groupTurns: handler.groupTurns ?? NEW_TYPE.groupTurns }
  const declaredIn = (limit: Limit): Pick<TypeRecord, Limit> => (fromHandler && !by[limit] ? fromHandler : before)
  const { declared = before.declared, paused = before.paused, heldUntil = before.heldUntil } = change
  const { maxConcurrency = declaredIn('maxConcurrency').maxConcurrency } = change
  const { groupConcurrency = declaredIn('groupConcurrency').groupConcurrency } = change
  const { groupTurns = declaredIn('groupTurns').groupTurns } = change
  const { rate = declaredIn('rate').rate } = change
  return {
    declared,
    paused,
    heldUntil,
    maxConcurrency,
    groupConcurrency,
    groupTurns,
    rate,
    setByOperator: {
      maxConcurrency: by.maxConcurrency || change.maxConcurrency !== undefined,
      groupConcurrency: by.groupConcurrency || change.groupConcurrency !== undefined,
      groupTurns: by.groupTurns || change.groupTurns !== undefined,
      rate: by.rate || change.rate !== undefined,
    },
    delaysMs: handler ? retryDelaysMs(handler.retry) : before.delaysMs,
    jitter: handler ? handler.retry.jitter : before.jitter,
    payloadSchema: handler ? handler.payloadSchema : before.payloadSchema,
    defaults: handler ? handler.defaults : before.defaults,
    ceilings: changedCeilings(before.ceilings, ceilings),
    retention: {
      set: changedRetention(before.retention.set, retention),
      handler: handler ? (handler.retention ?? {}) : before.retention.handler,
    },
  }
}
