import { createRemoteJWKSet, errors, jwtVerify } from 'jose'
import { XQueueError } from '../task/errors.ts'
import { boundsIn, scopesIn } from './claims.ts'
import { notAccepted, type Principal } from './principal.ts'

export interface IssuerOptions {
  /** URL of its public keys. */
  jwksUrl: string
  issuer: string
  audience: string
  /** The claim with the scopes: a list, or words separated by spaces. */
  scopeClaim: string
  /** Minimum time between two reloads of the keys because of an unknown key. */
  cooldownMs?: number
}

/** Asymmetric algorithms only: with a shared secret, every verifier could sign. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA']
const COOLDOWN_MS = 10_000
const FETCH_MS_MAX = 5_000
const CLOCK_SKEW_S = 5

/**
 * An identity provider whose tokens (JWT) are verified with its public keys. The keys are reloaded every ten minutes,
 * and at once for a token with an unknown key, because the issuer may rotate them.
 */
export class Issuer {
  readonly #options: IssuerOptions
  readonly #keys: ReturnType<typeof createRemoteJWKSet>

  constructor(options: IssuerOptions) {
    const { jwksUrl, cooldownMs = COOLDOWN_MS } = options
    this.#options = options
    this.#keys = createRemoteJWKSet(new URL(jwksUrl), { cooldownDuration: cooldownMs, timeoutDuration: FETCH_MS_MAX })
  }

  /** @throws XQueueError `unauthorized` with the reason | `issuer_unavailable` */
  async verify(token: string): Promise<Principal> {
    const { issuer, audience, scopeClaim } = this.#options
    const checks = { issuer, audience, algorithms: ALGORITHMS, requiredClaims: ['exp', 'sub'] }
    const { payload } = await jwtVerify(token, this.#keys, { ...checks, clockTolerance: CLOCK_SKEW_S }).catch(
      (error: unknown) => {
        throw this.#refusalOf(error)
      },
    )
    const subject = payload.sub!
    return {
      id: `jwt:${subject}`,
      name: subject,
      scopes: scopesIn(payload, scopeClaim),
      rate: null,
      keyId: null,
      expiresAt: payload.exp! * 1_000,
      interests: null,
      bounds: boundsIn(payload),
    }
  }

  #refusalOf(error: unknown): unknown {
    const { issuer, audience, jwksUrl } = this.#options
    if (error instanceof errors.JWTExpired) return notAccepted('the token has expired: get a new one from its issuer')
    if (error instanceof errors.JWTClaimValidationFailed) {
      const wanted: Record<string, string> = { iss: `"${issuer}"`, aud: `"${audience}"` }
      const must = wanted[error.claim] ? `it must be ${wanted[error.claim]}` : error.reason
      return notAccepted(`the token's claim "${error.claim}" is not valid: ${must}`)
    }
    if (error instanceof errors.JWKSNoMatchingKey) {
      return notAccepted(`the token was signed with a key that is not at ${jwksUrl}`)
    }
    if (error instanceof errors.JWSSignatureVerificationFailed) {
      return notAccepted('the signature of the token is not valid')
    }
    if (error instanceof errors.JOSEAlgNotAllowed) {
      return notAccepted(`the algorithm of the token's signature is not accepted: use one of ${ALGORITHMS.join(', ')}`)
    }
    if (error instanceof errors.JWTInvalid || error instanceof errors.JWSInvalid) {
      return notAccepted('the token is not a JWT')
    }
    // These remaining errors are faults of the token: unsupported requirements (`crit`), or an ambiguous key.
    if (error instanceof errors.JOSENotSupported) {
      return notAccepted('the token requires an unsupported feature (its header `crit` or `alg`)')
    }
    if (error instanceof errors.JWKSMultipleMatchingKeys) {
      return notAccepted('several keys of the issuer match the token: name one in its header (`kid`)')
    }
    // The rest are failures to load the keys, which are not the caller's fault.
    const detail = `the keys of the token's issuer cannot be read from ${jwksUrl} (${(error as Error).message})`
    return new XQueueError('issuer_unavailable', detail, { retry_after: 1 }, { cause: error })
  }
}
