import { hash, randomBytes } from 'node:crypto'
import type { KeyChange, Keys, Queue } from '../queue/queue.ts'
import type { ApiKey } from '../task/api-key.ts'
import { XQueueError } from '../task/errors.ts'

/** Time for which keys are cached, and so the time for which a revoked key still works in a process. */
export const BELIEVED_MS = 400
/** Minimum time between reloads because of an unknown key, which may be new. */
const LOOK_AGAIN_MS = 100
const TOKEN_BYTES = 32
export const PREFIXES = { key: 'xq_', session: 'xqs_' } as const

export type NewKey = Pick<ApiKey, 'name' | 'scopes' | 'rate' | 'bounds' | 'expiresAt' | 'session'>

/**
 * This process's cache of the keys. Tokens have 256 random bits, so one round of SHA-256 protects them as well as a
 * slow hash. Scanners for leaked secrets recognize the prefix.
 */
export class KeyRing {
  readonly #queue: Queue
  #reading: { at: number; keys: Promise<Map<string, ApiKey>> } | undefined
  /** Time of the latest load. */
  #keptAt = Number.NEGATIVE_INFINITY
  /** By token, so that a token is not hashed for each call. At most one entry per key. */
  #recalled = new Map<string, ApiKey>()
  #ids: ReadonlyMap<string, ApiKey> = new Map()
  #secret = ''

  constructor(queue: Queue) {
    this.#queue = queue
  }

  async find(token: string): Promise<ApiKey | null> {
    const hash = hashOf(token)
    const key = (await this.#byHash()).get(hash) ?? (await this.#byHash(LOOK_AGAIN_MS)).get(hash)
    if (!key || !this.#isValid(key)) return null
    if (this.#ids.get(key.id) === key) this.#recalled.set(token, key)
    return key
  }

  /** The answer of `find` from the cache. Null: not cached; the key may still be valid. */
  recall(token: string): ApiKey | null {
    if (performance.now() - this.#keptAt >= BELIEVED_MS) return null
    const key = this.#recalled.get(token)
    return key && this.#isValid(key) ? key : null
  }

  /** The key or session with this id, if it is still valid. */
  async byId(id: string): Promise<ApiKey | null> {
    await this.#byHash()
    const key = this.#ids.get(id)
    return key && this.#isValid(key) ? key : null
  }

  async all(): Promise<ApiKey[]> {
    return [...(await this.#byHash()).values()].filter((key) => this.#isValid(key))
  }

  /** The secret that signs subscription tokens of this store. */
  async secret(): Promise<string> {
    await this.#byHash()
    return this.#secret
  }

  /** Returns the token, which is not stored. @throws XQueueError `invalid_request` for a name in use */
  async add(key: NewKey): Promise<{ token: string; key: ApiKey }> {
    const keys = await this.all()
    if (!key.session && keys.some(({ name, session }) => !session && name === key.name)) {
      const remedy = 'choose another name, or revoke that key first'
      throw new XQueueError('invalid_request', `a key named ${key.name} exists: ${remedy}`)
    }
    const kind = key.session ? 'session' : 'key'
    const token = PREFIXES[kind] + randomBytes(TOKEN_BYTES).toString('base64url')
    const id = `${kind}-${randomBytes(6).toString('hex')}`
    const added: ApiKey = { id, hash: hashOf(token), createdAt: Date.now(), ...key }
    await this.#change({ add: added })
    return { token, key: added }
  }

  async drop(id: string): Promise<void> {
    await this.#change({ drop: id })
  }

  /** Revokes the subscription tokens that a key or session has created until now. */
  async revokeTokens(key: ApiKey): Promise<void> {
    await this.#change({ alter: { ...key, tokensFrom: Date.now() } })
  }

  /** A session is valid only with its key, even if an older process stored it after the key was dropped. */
  #isValid({ expiresAt, session }: ApiKey): boolean {
    if (expiresAt !== null && expiresAt <= Date.now()) return false
    if (!session || session.of === null) return true
    const parent = this.#ids.get(session.of)
    return parent !== undefined && !parent.session && this.#isValid(parent)
  }

  async #change(change: KeyChange): Promise<void> {
    const at = performance.now()
    const keys = this.#queue.keys(change).then((kept) => this.#keep(kept, at))
    await keys
    this.#reading = { at, keys }
  }

  #byHash(believedMs = BELIEVED_MS): Promise<Map<string, ApiKey>> {
    const at = performance.now()
    if (this.#reading && at - this.#reading.at < believedMs) return this.#reading.keys
    const keys = this.#queue.keys().then((kept) => this.#keep(kept, at))
    const reading = { at, keys }
    this.#reading = reading
    // The next call repeats a failed load.
    keys.catch(() => {
      if (this.#reading === reading) this.#reading = undefined
    })
    return keys
  }

  #keep({ keys, secret }: Keys, at: number): Map<string, ApiKey> {
    if (at >= this.#keptAt) {
      this.#keptAt = at
      this.#secret = secret
      this.#ids = new Map(keys.map((key) => [key.id, key]))
      this.#recalled = new Map()
    }
    return new Map(keys.map((key) => [key.hash, key]))
  }
}

function hashOf(token: string): string {
  return hash('sha256', token, 'base64url')
}
