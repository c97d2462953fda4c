import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import { XQueueError } from '../task/errors.ts'
import { type Json, type JsonText, textOf } from '../task/json.ts'

const CIPHER = 'aes-256-gcm'
const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
/** `sealed:<key id>:<nonce, tag and text>`; any other text was never encrypted. */
const SEALED = /^sealed:([\w.-]{1,32}):([\w-]+)$/
const KEY = /^([\w.-]{1,32})=([A-Za-z0-9+/_-]{43}=?)$/

interface Key {
  id: string
  bytes: Buffer
  /** Derives the nonce where equal values must encrypt to equal texts. */
  forNonce: Buffer
}

/** The id of the key that a value is encrypted with; null if it is plain. */
export function keyOfSealed(value: unknown): string | null {
  return (typeof value === 'string' && SEALED.exec(value)?.[1]) || null
}

/** The value shown in place of one that could not be decrypted. */
export function placeholder(keyId: string | null): string {
  return keyId === null ? '[not encrypted]' : `[encrypted with the key ${keyId}]`
}

/**
 * Encrypts JSON with the first of its keys and decrypts it with any of them. To rotate keys, put a new key first and
 * keep the old ones until no value is left that they encrypted.
 */
export class Encryption {
  readonly #keys: Map<string, Key>
  readonly #first: Key
  readonly #isStrict: boolean

  /**
   * @param keys `<id>=<32 bytes in base64>` each
   * @param strict rejects plain text, and values that an older version encrypted with a weaker binding
   * @throws XQueueError `invalid_config`
   */
  constructor(keys: readonly string[], { strict = false }: { strict?: boolean } = {}) {
    this.#isStrict = strict
    this.#keys = new Map(keys.map(readKey).map((key) => [key.id, key]))
    this.#first = [...this.#keys.values()][0]!
    if (this.#keys.size < keys.length)
      throw new XQueueError('invalid_config', 'payload-keys has two keys with the same id')
  }

  /**
   * @param about what the value is: it can be decrypted only as that
   * @param same where given, equal values under this name encrypt to equal texts, so that they can be compared
   */
  encrypt(value: Json | JsonText, about: string, same: string | null = null): string {
    const { id, bytes, forNonce } = this.#first
    const text = Buffer.from(textOf(value))
    // The nonce repeats only for the same value under the same name, which reveals nothing except that they are equal.
    const made =
      same === null ? null : createHmac('sha256', forNonce).update(`${about}\n${same}\n`).update(text).digest()
    const nonce = made?.subarray(0, NONCE_BYTES) ?? randomBytes(NONCE_BYTES)
    const cipher = createCipheriv(CIPHER, bytes, nonce).setAAD(Buffer.from(about))
    const sealed = Buffer.concat([cipher.update(text), cipher.final()])
    return `sealed:${id}:${Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString('base64url')}`
  }

  /**
   * Decrypts a value. It stays encrypted if its key is missing or it was encrypted as something else. Plain text is
   * returned unchanged, unless the encryption is strict.
   * @param before the binding that an older version would have used
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

/** `keyId` names the key that an encrypted value needs; null: the value is plain text, which strict mode rejects. */
export type Opened = { value: Json } | { keyId: string | null }

/** Null if the value was encrypted as something else, with another key of the same id, or has changed since. */
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
    const remedy = 'write id=KEY with 32 random bytes in base64, as `head -c 32 /dev/urandom | base64` prints'
    throw new XQueueError('invalid_config', `payload-keys contains an invalid key: ${remedy}`)
  }
  return { id, bytes, forNonce: Buffer.from(hkdfSync('sha256', bytes, '', 'xqueue nonce', KEY_BYTES)) }
}
