import { hash } from 'node:crypto'
import { type Bounds, boundsText } from '../task/bounds.ts'

/** Prefix of a tenant's names in the store, valid for every kind of name. */
const OF_A_TENANT = /^t-[\da-f]{12}:/
const DIGITS = 12

/**
 * The names that a tenant chooses (idempotency keys, batches, schedules, workers). In the store they have a prefix from
 * its bounds, so that two tenants can use the same name without learning of each other.
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

  /** The tenant's name; null for another tenant's. A name without a prefix is unchanged. */
  shown(stored: string | null): string | null {
    if (stored === null) return null
    if (this.isOwn(stored)) return stored.slice(this.#mark.length)
    return OF_A_TENANT.test(stored) ? null : stored
  }
}
