import { hash, randomBytes } from 'node:crypto'
import type { Engine, KeyChange, Keys } from '../engine/engine.ts'
import type { ApiKey } from '../task/api-key.ts'
import { XQueueError } from '../task/errors.ts'

/** What was read of the keys is believed for so long: a revoked key works no longer than that, in any process. */
const BELIEVED_MS = 1_000
/** A key that is not known may be new: it is looked for again, but no more often than this. */
const LOOK_AGAIN_MS = 100
const TOKEN_BYTES = 32
export const PREFIXES = { key: 'xq_', session: 'xqs_' } as const

export type NewKey = Pick<ApiKey, 'name' | 'scopes' | 'rate' | 'expiresAt' | 'session'>

/**
 * The keys of all processes, as this one knows them. Tokens are 256 random bits, so one round of SHA-256 hides them as
 * well as a slow hash would: there is nothing to guess. The prefix lets scanners for lost secrets recognise them.
 */
export class KeyRing {
  readonly #engine: Engine
  #reading: { at: number; keys: Promise<Map<string, ApiKey>> } | undefined
  #ids: ReadonlySet<string> = new Set()
  #secret = ''

  constructor(engine: Engine) {
    this.#engine = engine
  }

  async find(token: string): Promise<ApiKey | null> {
    const hash = hashOf(token)
    return (await this.#byHash()).get(hash) ?? (await this.#byHash(LOOK_AGAIN_MS)).get(hash) ?? null
  }

  async has(id: string): Promise<boolean> {
    await this.#byHash()
    return this.#ids.has(id)
  }

  async all(): Promise<ApiKey[]> {
    const now = Date.now()
    return [...(await this.#byHash()).values()].filter(({ expiresAt }) => expiresAt === null || expiresAt > now)
  }

  /** What tokens of this store are signed with. */
  async secret(): Promise<string> {
    await this.#byHash()
    return this.#secret
  }

  /** The token is told this once, and kept nowhere. @throws XQueueError `invalid_request` for a name that is taken */
  async add(key: NewKey): Promise<{ token: string; key: ApiKey }> {
    const keys = await this.all()
    if (!key.session && keys.some(({ name, session }) => !session && name === key.name)) {
      const remedy = 'choose another name, or revoke that one first'
      throw new XQueueError('invalid_request', `there is a key named ${key.name} already: ${remedy}`)
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

  async #change(change: KeyChange): Promise<void> {
    const at = performance.now()
    const keys = this.#engine.keys(change).then((kept) => this.#keep(kept))
    await keys
    this.#reading = { at, keys }
  }

  #byHash(believedMs = BELIEVED_MS): Promise<Map<string, ApiKey>> {
    const at = performance.now()
    if (this.#reading && at - this.#reading.at < believedMs) return this.#reading.keys
    const keys = this.#engine.keys().then((kept) => this.#keep(kept))
    const reading = { at, keys }
    this.#reading = reading
    // What failed is asked again by the next call.
    keys.catch(() => {
      if (this.#reading === reading) this.#reading = undefined
    })
    return keys
  }

  #keep({ keys, secret }: Keys): Map<string, ApiKey> {
    this.#secret = secret
    this.#ids = new Set(keys.map(({ id }) => id))
    return new Map(keys.map((key) => [key.hash, key]))
  }
}

function hashOf(token: string): string {
  return hash('sha256', token, 'base64url')
}
