import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import { XQueueError } from '../task/errors.ts'
import { type Json, type JsonText, textOf } from '../task/json.ts'

const CIPHER = 'aes-256-gcm'
const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
/** `sealed:<key id>:<nonce, tag and text>`; what does not look like that was never sealed. */
const SEALED = /^sealed:([\w.-]{1,32}):([\w-]+)$/
const KEY = /^([\w.-]{1,32})=([A-Za-z0-9+/_-]{43}=?)$/

interface Key {
  id: string
  bytes: Buffer
  /** Makes the nonce where the same must seal to the same. */
  forNonce: Buffer
}

/** The value that stands where one could not be opened. */
export function placeholder(keyId: string | null): string {
  return keyId === null ? '[not encrypted]' : `[encrypted with the key ${keyId}]`
}

/**
 * Seals JSON with the first of its keys and opens it with any of them: a new key is put first, and old ones stay until
 * nothing is left that they sealed.
 */
export class Encryption {
  readonly #keys: Map<string, Key>
  readonly #first: Key
  readonly #isStrict: boolean

  /**
   * @param keys `<id>=<32 bytes in base64>` each
   * @param strict opens neither plain text nor what an older version sealed, which was bound to less
   * @throws XQueueError `invalid_config`
   */
  constructor(keys: readonly string[], { strict = false }: { strict?: boolean } = {}) {
    this.#isStrict = strict
    this.#keys = new Map(keys.map(readKey).map((key) => [key.id, key]))
    this.#first = [...this.#keys.values()][0]!
    if (this.#keys.size < keys.length) throw new XQueueError('invalid_config', 'payload-keys has two keys of one id')
  }

  /**
   * @param about what the value is: it opens only as that
   * @param same where given, the same value seals to the same text under it, for whoever compares sealed values
   */
  encrypt(value: Json | JsonText, about: string, same: string | null = null): string {
    const { id, bytes, forNonce } = this.#first
    const text = Buffer.from(textOf(value))
    // Only of the same value under the same name is the nonce the same again, which tells nothing but that.
    const made =
      same === null ? null : createHmac('sha256', forNonce).update(`${about}\n${same}\n`).update(text).digest()
    const nonce = made?.subarray(0, NONCE_BYTES) ?? randomBytes(NONCE_BYTES)
    const cipher = createCipheriv(CIPHER, bytes, nonce).setAAD(Buffer.from(about))
    const sealed = Buffer.concat([cipher.update(text), cipher.final()])
    return `sealed:${id}:${Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString('base64url')}`
  }

  /**
   * Opens a value. It stays closed if its key is missing or it was sealed as something else. Plain text is returned
   * unchanged, unless the seal is strict.
   * @param before what an older version would have sealed it as
   */
  decrypt(value: Json, about: string, before = about): Opened {
    const [, keyId, text] = (typeof value === 'string' && SEALED.exec(value)) || []
    if (keyId === undefined || text === undefined) return this.#isStrict ? { keyId: null } : { value }
    const key = this.#keys.get(keyId)
    if (!key) return { keyId }
    const opened = openAs(key, text, about)
    if (opened || this.#isStrict || before === about) return opened ?? { keyId }
    return openAs(key, text, before) ?? { keyId }
  }
}

/** `keyId` names the key that a closed value asks for; null: it is plain text, which is not accepted. */
export type Opened = { value: Json } | { keyId: string | null }

/** Null if it was sealed as something else, with another key of the same id, or has changed since. */
function openAs(key: Key, text: string, about: string): { value: Json } | null {
  const parts = Buffer.from(text, 'base64url')
  const [nonce, tag] = [parts.subarray(0, NONCE_BYTES), parts.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES)]
  if (tag.length < TAG_BYTES) return null
  const decipher = createDecipheriv(CIPHER, key.bytes, nonce, { authTagLength: TAG_BYTES })
  decipher.setAAD(Buffer.from(about)).setAuthTag(tag)
  try {
    const opened = Buffer.concat([decipher.update(parts.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()])
    return { value: JSON.parse(opened.toString()) }
  } catch {
    return null
  }
}

function readKey(text: string): Key {
  const [, id, base64] = KEY.exec(text) ?? []
  const bytes = Buffer.from(base64 ?? '', 'base64')
  if (id === undefined || bytes.length !== KEY_BYTES) {
    const remedy = 'write id=KEY, KEY being 32 random bytes in base64, as `head -c 32 /dev/urandom | base64` prints'
    throw new XQueueError('invalid_config', `payload-keys holds something that is no key: ${remedy}`)
  }
  return { id, bytes, forNonce: Buffer.from(hkdfSync('sha256', bytes, '', 'xqueue nonce', KEY_BYTES)) }
}
