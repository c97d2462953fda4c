import { NO_RETENTION } from '../../../task/retention.ts'
import type { TypeSettings } from '../../store.ts'
import { NEW_TYPE, type TypeRecord } from '../../type-record.ts'

/** The record of a type in Redis: the values of TYPE_FIELDS (records/types.lua), '' for each that is missing. */
export type TypeFields = [
  /** `paused,limit,source,limit of a group,source,rate's max,window,source`, see rules.lua. */
  rules: string,
  heldUntil: string,
  /** `jitter,delay,delay…`, if a handler has declared the type. */
  backOff: string,
  payloadSchema: string,
  defaults: string,
  ceilings: string,
  retention: string,
  declared: string,
  /** `tasks,source` or `time,source`; '' for tasks of the handler. */
  turns: string,
]

/** The back-off of a type's retries; scripts read the other rules of the type themselves. */
export type BackOff = Pick<TypeRecord, 'delaysMs' | 'jitter'>

const OPERATOR = 'o'

/** @param fields of a type that exists, as all of these functions */
export function readType(fields: TypeFields): TypeRecord {
  return { ...readRules(fields), ...readBackOff(fields[2]), ...readSettings(fields) }
}

/** What claims need of a type. */
export function readRules([rules, heldUntil, , , , , , declared, turnsOfGroups]: TypeFields) {
  const [paused, limit, limitBy, groupLimit, groupBy, max, per, rateBy] = rules.split(',')
  const [turns, turnsBy] = turnsOfGroups.split(',')
  const number = (text: string | undefined) => (text ? Number(text) : null)
  return {
    declared: declared === '1',
    paused: paused === '1',
    heldUntil: number(heldUntil),
    maxConcurrency: number(limit),
    groupConcurrency: number(groupLimit),
    groupTurns: turns === 'time' ? ('time' as const) : ('tasks' as const),
    rate: max ? { max: Number(max), perMs: Number(per) } : null,
    setByOperator: {
      maxConcurrency: limitBy === OPERATOR,
      groupConcurrency: groupBy === OPERATOR,
      groupTurns: turnsBy === OPERATOR,
      rate: rateBy === OPERATOR,
    },
  }
}

export function readSettings([, , , payloadSchema, defaults, ceilings, retention]: TypeFields): TypeSettings {
  return {
    payloadSchema: payloadSchema === '' ? null : JSON.parse(payloadSchema),
    defaults: defaults === '' ? {} : JSON.parse(defaults),
    ceilings: ceilings === '' ? {} : JSON.parse(ceilings),
    retention: retention === '' ? NO_RETENTION : JSON.parse(retention),
  }
}

export function hasHandler([, , backOff]: TypeFields): boolean {
  return backOff !== ''
}

/** @param isHandled whether a handler has declared the type */
export function writeType(record: TypeRecord, isHandled: boolean): TypeFields {
  const { maxConcurrency, groupConcurrency, groupTurns, rate, setByOperator: by, retention, payloadSchema } = record
  const source = (isSet: boolean) => (isSet ? OPERATOR : 'h')
  const limits = [maxConcurrency ?? '', source(by.maxConcurrency), groupConcurrency ?? '', source(by.groupConcurrency)]
  const json = (value: object) => (Object.keys(value).length === 0 ? '' : JSON.stringify(value))
  const hasRetention = Object.keys({ ...retention.set, ...retention.handler }).length > 0
  return [
    [Number(record.paused), ...limits, rate?.max ?? '', rate?.perMs ?? '', source(by.rate)].join(','),
    String(record.heldUntil ?? ''),
    isHandled ? [record.jitter, ...record.delaysMs].join(',') : '',
    payloadSchema === null ? '' : JSON.stringify(payloadSchema),
    json(record.defaults),
    json(record.ceilings),
    hasRetention ? JSON.stringify(retention) : '',
    record.declared ? '1' : '0',
    groupTurns === 'tasks' && !by.groupTurns ? '' : `${groupTurns},${source(by.groupTurns)}`,
  ]
}

/** @param text '' if no handler has declared one */
export function readBackOff(text: string): BackOff {
  if (text === '') return { delaysMs: NEW_TYPE.delaysMs, jitter: NEW_TYPE.jitter }
  const [jitter = 0, ...delaysMs] = text.split(',').map(Number)
  return { jitter, delaysMs }
}
