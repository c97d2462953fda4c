import { randomBytes } from 'node:crypto'
import { DOCUMENT_LIMITS, type DocumentChange } from '../store/documents.ts'
import { sessionWithoutKey } from '../store/refusals.ts'
import type { Store } from '../store/store.ts'
import type { ApiKey, KeyChange, Keys } from '../task/api-key.ts'

const READ = [{ kind: 'key' }, { kind: 'secret' }] as const

/**
 * The API keys, the sessions that they opened, and the secret that signs tokens. A session counts only while its key is
 * kept, so a session that is stored at the moment when its key is removed is not valid.
 */
export class ApiKeys {
  readonly #store: Store

  constructor(store: Store) {
    this.#store = store
  }

  /** The keys that have not expired, oldest first, after a change if there is one. */
  async keys(change?: KeyChange): Promise<Keys> {
    const { gone, ...kept } = await this.#step(change ? changesOf(change) : [])
    if (!change) return kept
    if (gone.length > 0) await this.#step(gone.map(removal))
    const of = 'add' in change ? change.add.session?.of : null
    const isStored = kept.keys.some(({ id }) => 'add' in change && id === change.add.id)
    if (of && !isStored) throw sessionWithoutKey()
    return kept
  }

  /** Makes the changes, or none of them, and reads all. `gone` are records that no longer count. */
  async #step(changes: readonly DocumentChange[]): Promise<Keys & { gone: string[] }> {
    const { documents } = await this.#store.documents({ changes, read: READ })
    const [keys, [secret]] = [documents[0]!, documents[1]!]
    if (!secret) {
      const text = randomBytes(32).toString('base64url')
      await this.#store.documents({ changes: [{ kind: 'secret', id: '', if: 'absent', to: text }] })
      return this.#step([])
    }
    const now = this.#store.now()
    const all = keys.map(({ text }): ApiKey => JSON.parse(text)).sort(byAge)
    const living = all.filter(({ expiresAt }) => expiresAt === null || expiresAt > now)
    const ids = new Set(living.map(({ id }) => id))
    const valid = living.filter(({ session }) => !session?.of || ids.has(session.of))
    const gone = all.filter((key) => !valid.includes(key)).slice(0, DOCUMENT_LIMITS.changesMax)
    return { keys: valid, secret: secret.text, gone: gone.map(({ id }) => id) }
  }
}

function changesOf(change: KeyChange): DocumentChange[] {
  if ('drop' in change) return [removal(change.drop)]
  const key = 'add' in change ? change.add : change.alter
  const stored: DocumentChange = { kind: 'key', id: key.id, to: JSON.stringify(key) }
  if ('alter' in change) return [{ ...stored, if: 'present' }]
  return key.session?.of ? [{ kind: 'key', id: key.session.of, if: 'present' }, stored] : [stored]
}

function removal(id: string): DocumentChange {
  return { kind: 'key', id, to: null }
}

function byAge(a: ApiKey, b: ApiKey): number {
  return a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1)
}
