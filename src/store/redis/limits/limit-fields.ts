import { type LimitRecord, NEW_LIMIT } from '../../limit-record.ts'

/** The settings of a named limit in Redis: `paused,max,source,rate's max,window,source`, and until when it is held. */
export interface LimitFields {
  /** '' for a limit that does not exist. */
  settings: string
  held: string
}

const OPERATOR = 'o'
const HANDLER = 'h'
export const NO_LIMIT: LimitFields = { settings: '', held: '' }

export function readLimit({ settings, held }: LimitFields): LimitRecord | null {
  if (settings === '') return null
  const [paused, max, maxBy, rateMax, perMs, rateBy] = settings.split(',')
  return {
    ...NEW_LIMIT,
    paused: paused === '1',
    max: max ? Number(max) : null,
    rate: rateMax ? { max: Number(rateMax), perMs: Number(perMs) } : null,
    heldUntil: held === '' ? null : Number(held),
    setByOperator: { max: maxBy === OPERATOR, rate: rateBy === OPERATOR },
  }
}

export function writeLimit({ paused, max, rate, heldUntil, setByOperator: by }: LimitRecord): LimitFields {
  const source = (isSet: boolean) => (isSet ? OPERATOR : HANDLER)
  const values = [Number(paused), max ?? '', source(by.max), rate?.max ?? '', rate?.perMs ?? '', source(by.rate)]
  return { settings: values.join(','), held: String(heldUntil ?? '') }
}
