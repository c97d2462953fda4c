import * as oidc from 'openid-client'
import type { Scope } from '../task/api-key.ts'
import { XQueueError } from '../task/errors.ts'
import { boundsIn, scopesIn } from './claims.ts'
import { notAccepted, type Principal } from './principal.ts'

export interface IdentityProviderOptions {
  /** Issuer URL of the identity provider; the discovery document is below it. */
  issuer: string
  clientId: string
  /** Null: a public client, protected by PKCE only. */
  clientSecret: string | null
  /** Scopes to request beside `openid`, separated by spaces. */
  scopes: string
  /** The claim with the roles; dots address nested objects, such as `realm_access.roles`. */
  rolesClaim: string
  /** The scopes of each role. */
  roles: ReadonlyMap<string, readonly Scope[]>
}

/** State that the browser keeps during the login at the provider. */
export interface PendingLogin {
  state: string
  nonce: string
  verifier: string
}

const TIMEOUT_S = 10
const DISCOVERED_MS = 3_600_000

/**
 * Login to the dashboard with OpenID Connect: authorization code flow with PKCE, state and nonce. Discovery happens at
 * the first login, so that an unavailable provider does not delay the start.
 */
export class IdentityProvider {
  readonly #options: IdentityProviderOptions
  #discovery: { at: number; configuration: Promise<oidc.Configuration> } | undefined

  constructor(options: IdentityProviderOptions) {
    this.#options = options
  }

  /** The URL to redirect the browser to. @throws XQueueError `issuer_unavailable` */
  async start(redirectUrl: string): Promise<{ url: URL; login: PendingLogin }> {
    const configuration = await this.#configuration()
    const login = { state: oidc.randomState(), nonce: oidc.randomNonce(), verifier: oidc.randomPKCECodeVerifier() }
    const url = oidc.buildAuthorizationUrl(configuration, {
      redirect_uri: redirectUrl,
      scope: `openid ${this.#options.scopes}`.trim(),
      code_challenge: await oidc.calculatePKCECodeChallenge(login.verifier),
      code_challenge_method: 'S256',
      state: login.state,
      nonce: login.nonce,
    })
    return { url, login }
  }

  /**
   * The user of a completed login. @param url the redirect URL with the provider's parameters
   * @throws XQueueError `unauthorized` | `forbidden` without a known role | `issuer_unavailable`
   */
  async finish(url: URL, login: PendingLogin): Promise<Principal> {
    const configuration = await this.#configuration()
    const checks = { expectedState: login.state, expectedNonce: login.nonce, pkceCodeVerifier: login.verifier }
    const tokens = await oidc
      .authorizationCodeGrant(configuration, url, { ...checks, idTokenExpected: true })
      .catch((error: unknown) => {
        throw this.#refusalOf(error)
      })
    const claims = tokens.claims()!
    const { rolesClaim, roles } = this.#options
    const scopes = scopesIn(claims, rolesClaim, roles)
    const name = String(claims.preferred_username ?? claims.email ?? claims.sub).slice(0, NAME_CHARS_MAX)
    if (scopes.length === 0) {
      const remedy = 'ask an administrator of the identity provider to assign one'
      throw new XQueueError('forbidden', `${name} has no role of XQueue in the claim ${rolesClaim}: ${remedy}`)
    }
    return {
      id: `oidc:${claims.sub}`,
      name,
      scopes,
      rate: null,
      keyId: null,
      expiresAt: null,
      interests: null,
      bounds: boundsIn(claims),
    }
  }

  async #configuration(): Promise<oidc.Configuration> {
    const found = this.#discovery
    if (found && performance.now() - found.at < DISCOVERED_MS) return found.configuration
    const { issuer, clientId, clientSecret } = this.#options
    const server = new URL(issuer)
    // The settings allow plain HTTP for loopback addresses only.
    const execute = server.protocol === 'http:' ? [oidc.allowInsecureRequests] : []
    const authentication = clientSecret === null ? oidc.None() : undefined
    const configuration = oidc
      .discovery(server, clientId, clientSecret ?? undefined, authentication, { execute, timeout: TIMEOUT_S })
      .catch((error: unknown) => {
        this.#discovery = undefined
        throw unavailable(issuer, error)
      })
    this.#discovery = { at: performance.now(), configuration }
    return configuration
  }

  #refusalOf(error: unknown): unknown {
    const { message } = error as Error
    if (error instanceof oidc.AuthorizationResponseError) {
      return notAccepted(`the identity provider refused the login: ${error.error_description ?? error.error}`)
    }
    if (error instanceof oidc.ResponseBodyError && error.status < 500) {
      return notAccepted(`the identity provider refused the code: ${error.error_description ?? error.error}`)
    }
    if (error instanceof oidc.ClientError) return notAccepted(`the login is not valid: ${message}. Log in again`)
    return unavailable(this.#options.issuer, error)
  }
}

const NAME_CHARS_MAX = 100

function unavailable(issuer: string, error: unknown): XQueueError {
  const detail = `the identity provider ${issuer} cannot be reached (${(error as Error).message})`
  return new XQueueError('issuer_unavailable', detail, { retry_after: 1 }, { cause: error })
}
