import type { Store } from '../store/store.ts'

/** A lease as it is kept: its present owner may be the caller, another one, or none. */
interface Kept {
  expires: number
  owner: string
  value: string
}

/** The parts of the store that leases need. */
export type LeaseStore = Pick<Store, 'documents' | 'now'>

/**
 * Named leases, each of one owner at a time, with a value that only the owner changes. A lease is a document
 * `expires|owner|value`; without an owner it is free. Every write names the text that it replaces, so an owner that has
 * lost its lease to another one changes nothing. An owner knows the text that it wrote last, so a renewal is one step.
 */
export class Leader {
  readonly #store: LeaseStore
  readonly #written = new Map<string, string>()

  constructor(store: LeaseStore) {
    this.#store = store
  }

  /**
   * Takes a lease that is free, expired or the caller's already, or renews it; with `leaseMs: 0` gives it back.
   *
   * @param next returns the value to store: of the present one, null for a new lease, and whether the lease was the
   *   caller's; null to leave a new lease alone
   * @returns the value, and whether the caller holds the lease
   */
  async take(
    name: string,
    owner: string,
    leaseMs: number,
    next: (value: string | null, wasMine: boolean) => string | null | Promise<string | null>,
  ): Promise<{ isHeld: boolean; isAnothers: boolean; value: string }> {
    const id = `${name}|${owner}`
    for (let text = this.#written.get(id) ?? (await this.#read(name)); ; ) {
      const kept = text === null ? null : keptOf(text)
      const now = this.#store.now()
      if (kept && kept.owner !== '' && kept.owner !== owner && kept.expires > now) {
        return { isHeld: false, isAnothers: true, value: kept.value }
      }
      const value = await next(kept?.value ?? null, kept?.owner === owner)
      if (value === null) return { isHeld: false, isAnothers: true, value: '' }
      const to = `${now + leaseMs}|${leaseMs > 0 ? owner : ''}|${value}`
      const condition = text === null ? ('absent' as const) : { text }
      const read = [{ kind: 'reader', ids: [name] } as const]
      const change = { kind: 'reader', id: name, if: condition, to } as const
      const { isChanged, documents } = await this.#store.documents({ changes: [change], read, durable: false })
      if (isChanged && leaseMs > 0) this.#written.set(id, to)
      else this.#written.delete(id)
      if (isChanged) return { isHeld: leaseMs > 0, isAnothers: false, value }
      text = documents[0]![0]?.text ?? null
    }
  }

  async #read(name: string): Promise<string | null> {
    const { documents } = await this.#store.documents({ read: [{ kind: 'reader', ids: [name] }] })
    return documents[0]![0]?.text ?? null
  }
}

function keptOf(text: string): Kept {
  const [, expires, owner, value] = /^(\d+)\|([^|]*)\|(.*)$/s.exec(text) ?? []
  return { expires: Number(expires ?? 0), owner: owner ?? '', value: value ?? '' }
}
