import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import type { PendingLogin } from '../access/identity-provider.ts'
import { notAccepted } from '../access/principal.ts'
import { pendingLoginCookie, pendingLoginOf, sessionCookie } from '../access/session-cookie.ts'
import { XQueueError } from '../task/errors.ts'
import { toXQueueError } from './problems.ts'
import type { Route, ServerContext } from './route.ts'

const CALLBACK = '/login/callback'
/** Relative link from the callback to the dashboard, valid below any path of a proxy. */
const DASHBOARD = '../'

/**
 * Login with an identity provider: it redirects the browser back with a code. These are pages for browsers, not API
 * calls.
 */
export function loginRoutes({ access, audit, identity, hasTls, basePath, closing }: ServerContext): Route[] {
  const isSecure = (request: FastifyRequest) => hasTls || request.protocol === 'https'
  const redirectUrl = (request: FastifyRequest) =>
    identity?.redirectUrl ?? `${isSecure(request) ? 'https' : 'http'}://${request.host}${basePath}${CALLBACK}`
  const provider = () => {
    if (access && identity) return identity.provider
    throw new XQueueError('not_found', 'no identity provider is configured: set one with --oidc-issuer')
  }
  const audited = ({ ip }: FastifyRequest, status: number) => ({ action: 'log in', target: null, status, ip })

  const start = async (request: FastifyRequest, reply: FastifyReply) => {
    const { url, login } = await provider().start(redirectUrl(request))
    reply.header('Set-Cookie', pendingLoginCookie(JSON.stringify(login), isSecure(request), basePath))
    return reply.redirect(url.href, 302)
  }

  const finish = async (request: FastifyRequest, reply: FastifyReply) => {
    const ended = pendingLoginCookie(null, isSecure(request), basePath)
    try {
      const principal = await provider().finish(answered(request), pending(request))
      const { token, expiresAt } = await access!.openSession(principal)
      const seconds = Math.floor((expiresAt - Date.now()) / 1_000)
      audit?.changed(principal, audited(request, 302))
      reply.header('Set-Cookie', [ended, sessionCookie(token, seconds, isSecure(request), basePath)])
      return reply.redirect(DASHBOARD, 302)
    } catch (error) {
      if (closing.aborted) throw error
      const { code, status, message } = toXQueueError(error as FastifyError)
      audit?.refused(null, audited(request, status), message)
      reply.header('Set-Cookie', ended)
      // The page maps the code to a text, because a text in a link could be forged.
      return reply.redirect(`${DASHBOARD}#login-error=${code}`, 302)
    }
  }
  /** The redirect URL with the parameters of the provider. */
  const answered = (request: FastifyRequest) => {
    const url = new URL(redirectUrl(request))
    url.search = new URL(request.url, url).search
    return url
  }

  return [
    {
      method: 'GET',
      url: '/login',
      scope: 'open',
      summary: 'Log in with the identity provider: redirects a browser to it',
      hidden: true,
      handler: start,
    },
    {
      method: 'GET',
      url: CALLBACK,
      scope: 'open',
      summary: 'Callback of the identity provider: redirects the browser to the dashboard',
      hidden: true,
      handler: finish,
    },
  ]
}

function pending(request: FastifyRequest): PendingLogin {
  const text = pendingLoginOf(request.headers.cookie)
  try {
    const { state, nonce, verifier } = JSON.parse(text ?? '') as PendingLogin
    return { state: String(state), nonce: String(nonce), verifier: String(verifier) }
  } catch {
    throw notAccepted('this browser started no login, or the login took longer than ten minutes: log in again')
  }
}
