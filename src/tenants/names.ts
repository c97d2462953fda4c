import { hash } from 'node:crypto'
import { type Bounds, boundsText } from '../task/bounds.ts'

/** What names of one tenant begin with in the store; the form suits every kind of name there is. */
const OF_A_TENANT = /^t-[\da-f]{12}:/
const DIGITS = 12

/**
 * The names that a tenant chooses (idempotency keys, batches, schedules, workers): in the store they begin with a mark
 * of its bounds, so that two tenants may use the same name and neither finds out about the other's.
 */
export class TenantNames {
  readonly #mark: string

  constructor(bounds: Bounds) {
    this.#mark = `t-${hash('sha256', boundsText(bounds), 'hex').slice(0, DIGITS)}:`
  }

  stored(name: string): string {
    return this.#mark + name
  }

  isOwn(stored: string): boolean {
    return stored.startsWith(this.#mark)
  }

  /** As the tenant knows it; null for another tenant's. A name of nobody's is told as it is. */
  shown(stored: string | null): string | null {
    if (stored === null) return null
    if (this.isOwn(stored)) return stored.slice(this.#mark.length)
    return OF_A_TENANT.test(stored) ? null : stored
  }
}
