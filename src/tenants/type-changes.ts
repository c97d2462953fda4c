import type { TypeChange } from '../engine/engine.ts'
import type { Bounds } from '../task/bounds.ts'
import { XQueueError } from '../task/errors.ts'

/**
 * What a key with bounds may not change of a type within them.
 * @throws XQueueError `forbidden`
 */
export function refuseTypeChange({ groups }: Bounds, { declared, ceilings }: TypeChange): void {
  if (groups) {
    const why = 'a key that is bound to groups cannot change a type, which others use as well'
    throw new XQueueError('forbidden', `${why}: use a key without groups`)
  }
  if (declared === undefined && ceilings === undefined) return
  const why = 'a key with bounds cannot declare a type or set its ceilings, which protect others from its tasks'
  throw new XQueueError('forbidden', `${why}: use a key without bounds`)
}
