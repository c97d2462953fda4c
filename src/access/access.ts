import type { Queue } from '../queue/queue.ts'
import type { ApiKey } from '../task/api-key.ts'
import { XQueueError } from '../task/errors.ts'
import { CallRates } from './call-rates.ts'
import type { Issuer, IssuerOptions } from './issuer.ts'
import { KeyRing, PREFIXES } from './key-ring.ts'
import { notAccepted, type Principal } from './principal.ts'
import { isSubscription, type SubscriptionClaims, signSubscription, verifySubscription } from './subscription.ts'

export interface AccessOptions {
  queue: Queue
  /** Whether API keys are accepted. */
  keys: boolean
  /** The issuer of accepted tokens. */
  issuer: IssuerOptions | null
  /** The secret that signs subscription tokens; null: the secret in the store. */
  tokenSecret: string | null
}

const SESSION_MS = 12 * 3_600_000
/** Maximum sessions of one key or one user of an issuer: the oldest ends when another is opened. */
const SESSIONS_MAX = 50
/** Together with the cache time of keys, less than the second within which a revocation takes effect. */
export const LOOK_MS = 400

/**
 * Access control for HTTP and MQTT. Without an instance, access control is off.
 *
 * A caller has a key, a token of the issuer, a session (a separate key, created at a login, with the rights of the
 * login) or a subscription token. All of these end within a second after their key, in every process; long connections
 * register with `lapses`.
 */
export class Access {
  readonly #ring: KeyRing
  readonly #options: AccessOptions
  readonly #issuer: Promise<Issuer> | null
  readonly #rates: CallRates
  readonly #principals = new WeakMap<ApiKey, Principal>()
  readonly #connected = new Set<{ principal: Principal; end: () => void }>()
  #looking: NodeJS.Timeout | undefined

  constructor(options: AccessOptions) {
    this.#options = options
    this.#ring = new KeyRing(options.queue)
    this.#rates = new CallRates(options.queue)
    const { issuer } = options
    this.#issuer = issuer && import('./issuer.ts').then(({ Issuer }) => new Issuer(issuer))
  }

  /**
   * The caller with this token in the Authorization header or as the MQTT password.
   * @throws XQueueError `unauthorized` | `issuer_unavailable` | `engine_unavailable`
   */
  async authenticate(token: string): Promise<Principal> {
    if (token.startsWith(PREFIXES.key)) {
      if (!this.#options.keys) throw notAccepted('keys are not accepted here: --auth keys or keys+jwt accepts them')
      return this.#byKey(token, 'the key is not valid: it was revoked, has expired, or never was')
    }
    if (token.split('.').length === 3) {
      if (await isSubscription(token)) return this.#bySubscription(token)
      if (!this.#issuer) throw notAccepted('tokens (JWT) are not accepted here: --auth jwt or keys+jwt accepts them')
      return (await this.#issuer).verify(token)
    }
    throw notAccepted(`that is neither a key of XQueue (they begin with ${PREFIXES.key}) nor a JWT`)
  }

  /** The answer of `authenticate` if it is cached; null otherwise. */
  recall(token: string): Principal | null {
    const key = this.#options.keys && token.startsWith(PREFIXES.key) ? this.#ring.recall(token) : null
    return key && this.#principalOf(key)
  }

  /** The caller with this session in the cookie. @throws XQueueError `unauthorized` | `engine_unavailable` */
  async bySession(token: string): Promise<Principal> {
    const ended = 'the session has ended: log in again'
    if (!token.startsWith(PREFIXES.session)) throw notAccepted(ended)
    return this.#byKey(token, ended)
  }

  /**
   * Opens a session for half a day, and no longer than its key or token is valid. Counts as a call.
   * @throws XQueueError `too_many_calls` | `unauthorized` | `engine_unavailable`
   */
  async openSession(principal: Principal): Promise<{ token: string; expiresAt: number }> {
    await this.spend(principal)
    const { name, scopes, rate, bounds, keyId, expiresAt } = principal
    const own = (await this.#ring.all()).filter(({ session, name: of }) => session?.of === keyId && of === name)
    for (const { id } of own.slice(0, Math.max(0, own.length - SESSIONS_MAX + 1))) await this.#ring.drop(id)
    const until = Math.min(Date.now() + SESSION_MS, expiresAt ?? Number.POSITIVE_INFINITY)
    const session = { of: keyId }
    const { token } = await this.#ring.add({ name, scopes, rate, bounds, expiresAt: until, session })
    return { token, expiresAt: until }
  }

  async closeSession({ keyId }: Principal): Promise<void> {
    if (keyId !== null) await this.#ring.drop(keyId)
  }

  /** Keys and sessions, oldest first. */
  keys(): Promise<ApiKey[]> {
    return this.#ring.all()
  }

  /** A key or a session. */
  key(id: string): Promise<ApiKey | null> {
    return this.#ring.byId(id)
  }

  /** Revokes a key with all its sessions and tokens, or a session. */
  revoke({ id }: ApiKey): Promise<void> {
    return this.#ring.drop(id)
  }

  /** Revokes the subscription tokens that a key or session has created until now. */
  revokeTokens(key: ApiKey): Promise<void> {
    return this.#ring.revokeTokens(key)
  }

  async signSubscription(claims: SubscriptionClaims, by: Principal): Promise<string> {
    return signSubscription(claims, by, await this.#secret())
  }

  /**
   * Counts a call or a connection. Calls of a key's sessions and tokens count for the key. A key without a rate costs
   * nothing.
   * @throws XQueueError `too_many_calls` | `engine_unavailable`
   */
  async spend({ id, name, rate }: Principal): Promise<void> {
    if (!rate) return
    const waitMs = await this.#rates.count(id, rate)
    if (waitMs === 0) return
    const seconds = Math.ceil(waitMs / 1_000)
    const detail = `${name} may make ${rate.max} calls in ${rate.perMs / 1_000} s: the next one in ${seconds} s`
    throw new XQueueError('too_many_calls', detail, { retry_after: seconds })
  }

  /** Calls `end` when the rights of a connected caller have ended. The returned function removes the caller. */
  lapses(principal: Principal, end: () => void): () => void {
    const connected = { principal, end }
    this.#connected.add(connected)
    this.#looking ??= setInterval(() => void this.#look(), LOOK_MS)
    return () => {
      this.#connected.delete(connected)
      if (this.#connected.size > 0) return
      clearInterval(this.#looking)
      this.#looking = undefined
    }
  }

  /** Whether any key exists. */
  async hasKeys(): Promise<boolean> {
    return (await this.#ring.all()).some(({ session }) => session === null)
  }

  async #look(): Promise<void> {
    for (const connected of [...this.#connected]) {
      // While the store is unavailable, rights cannot be checked, and connections stay open.
      const holds = await this.#holds(connected.principal).catch(() => true)
      if (!holds && this.#connected.has(connected)) connected.end()
    }
  }

  async #holds({ keyId, expiresAt, issuedAt }: Principal): Promise<boolean> {
    if (expiresAt !== null && expiresAt <= Date.now()) return false
    if (keyId === null) return true
    const key = await this.#ring.byId(keyId)
    if (key === null || issuedAt === undefined) return key !== null
    const of = key.session?.of ? await this.#ring.byId(key.session.of) : null
    return issuedAt > Math.max(key.tokensFrom ?? 0, of?.tokensFrom ?? 0)
  }

  async #byKey(token: string, refusal: string): Promise<Principal> {
    const key = await this.#ring.find(token)
    if (!key) throw notAccepted(refusal)
    return this.#principalOf(key)
  }

  #principalOf(key: ApiKey): Principal {
    let principal = this.#principals.get(key)
    if (!principal) {
      const { id, name, scopes, rate, bounds = null, expiresAt, session } = key
      // The calls of all sessions of a key count for the key.
      principal = { id: session?.of ?? id, name, scopes, rate, keyId: id, expiresAt, interests: null, bounds }
      this.#principals.set(key, principal)
    }
    return principal
  }

  async #bySubscription(token: string): Promise<Principal> {
    const principal = await verifySubscription(token, await this.#secret())
    if (await this.#holds(principal)) {
      const key = principal.keyId === null ? null : await this.#ring.byId(principal.keyId)
      return { ...principal, rate: key?.rate ?? null }
    }
    throw notAccepted('the key that this subscription token was made with is no longer valid')
  }

  async #secret(): Promise<string> {
    return this.#options.tokenSecret ?? this.#ring.secret()
  }
}
