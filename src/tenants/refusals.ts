import type { Turn, TypeChange } from '../queue/queue.ts'
import { unknownPredecessors, unknownType } from '../store/refusals.ts'
import type { Bounds } from '../task/bounds.ts'
import { XQueueError } from '../task/errors.ts'
import type { TaskSpec } from '../task/task.ts'
import { NO_USES } from '../task/uses.ts'

/** Types that a refusal names. */
const TYPES_NAMED_MAX = 20

/**
 * Refuses changes of a type that a key with bounds must not make.
 * @throws XQueueError `forbidden`
 */
export function refuseTypeChange({ groups }: Bounds, { declared, ceilings, retention }: TypeChange): void {
  if (groups) {
    const why = 'a key with groups cannot change a type, because other tenants use it as well'
    throw new XQueueError('forbidden', `${why}: use a key without groups`)
  }
  if (declared === undefined && ceilings === undefined && retention === undefined) return
  const why = 'a key with bounds cannot declare a type or set its ceilings or retention, which protect other tenants'
  throw new XQueueError('forbidden', `${why}: use a key without bounds`)
}

/** Why a type is unknown to a key that is bounded to other types. */
export function outsideOf({ types }: Bounds) {
  const some = types?.slice(0, TYPES_NAMED_MAX).join(', ')
  const own = types && types.length > TYPES_NAMED_MAX ? `${some}, …` : some
  return (type: string) => ({
    why: `the key is bounded to the types ${own}, and "${type}" is not one of them`,
    remedy: 'use one of its types, or another key',
  })
}

/** A worker whose key has bounds gets no tasks: its types are outside of them, or do not exist. */
export function noTypeFor(
  bounds: Bounds,
  [asked = '']: readonly string[],
  [missing]: readonly string[],
  registered: string[],
): XQueueError {
  if (missing === undefined) return unknownType(asked, registered, outsideOf(bounds)(asked))
  return unknownType(missing, registered, {
    why: `the task type "${missing}" does not exist, and a worker whose key has bounds creates no types`,
    remedy: `let an operator declare it with POST /api/v1/types/${missing}, or start a worker without bounds first`,
  })
}

/**
 * Tasks that wait for tasks outside of the bounds.
 * @throws XQueueError `unknown_predecessor`
 */
export async function refuseForeign(
  specs: readonly TaskSpec[],
  visible: (ids: readonly string[]) => Promise<Set<string>>,
): Promise<void> {
  const named = specs.flatMap(({ after }, index) =>
    after.flatMap((id, place) => (typeof id === 'string' ? [{ index, place, id }] : [])),
  )
  if (named.length === 0) return
  const found = await visible(named.map(({ id }) => id))
  const missing = named.filter(({ id }) => !found.has(id))
  if (missing.length > 0) throw unknownPredecessors(missing)
}

export async function refuseKeys(): Promise<never> {
  throw new XQueueError('forbidden', 'a key with bounds cannot see or change keys: use a key without bounds')
}

export async function refuseLimits(): Promise<never> {
  const why = 'a key with bounds cannot change named limits, which all tenants use'
  throw new XQueueError('forbidden', `${why}: use a key without bounds`)
}

/** Named limits are used by all tenants, so a key with bounds sees none. */
export async function noLimits(): Promise<never[]> {
  return []
}

type Reported = NonNullable<Turn['outcomes']>[number]

/**
 * Limits are used by all tenants: the uses of a task are those of its handler, so a task cannot choose to have none.
 * @throws XQueueError `forbidden`
 */
export function refuseOwnUses({ uses = NO_USES, byDefault }: Partial<Pick<TaskSpec, 'uses' | 'byDefault'>>): void {
  const isChosen = byDefault ? !byDefault.includes('uses') : uses !== NO_USES
  if (!isChosen) return
  const why = 'a key with bounds cannot choose the limits that a task uses'
  throw new XQueueError('forbidden', `${why}: omit \`uses\`, or use a key without bounds`)
}

/**
 * Other tenants use the type and the limits of a key with groups as well: a hold delays only its own task, after a
 * failed attempt, and a reported usage has no effect.
 */
export function withoutHold({ lease, outcome }: Reported): Reported {
  if (outcome.kind === 'held') {
    return { lease, outcome: { kind: 'failure', error: outcome.error, retry: true, delayMs: outcome.holdMs } }
  }
  if (!('usage' in outcome)) return { lease, outcome }
  const { usage: _, ...rest } = outcome
  return { lease, outcome: rest }
}
