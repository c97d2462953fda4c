import type { IncomingHttpHeaders } from 'node:http'

const NAME = 'xqueue_session'
const VALUE = new RegExp(`(?:^|; *)${NAME}=([\\w-]{1,100})(?:;|$)`)

/** The session's token in a Cookie header. */
export function sessionOf(header: string | undefined): string | null {
  return VALUE.exec(header ?? '')?.[1] ?? null
}

/**
 * Not readable by scripts, and not sent with requests from other sites.
 * @param seconds 0 removes it
 * @param basePath path of the proxy, so that other programs on the same host are not sent the cookie
 */
export function sessionCookie(token: string, seconds: number, isSecure: boolean, basePath: string): string {
  const secure = isSecure ? '; Secure' : ''
  return `${NAME}=${token}; Path=${basePath}/; HttpOnly; SameSite=Strict; Max-Age=${seconds}${secure}`
}

const PENDING = 'xqueue_login'
const PENDING_VALUE = new RegExp(`(?:^|; *)${PENDING}=([\\w-]{1,1000})(?:;|$)`)
const PENDING_S = 600

/**
 * State of the browser during the login at the identity provider. `Lax` sends it with the redirect back.
 * @param text null removes it
 */
export function pendingLoginCookie(text: string | null, isSecure: boolean, basePath: string): string {
  const value = Buffer.from(text ?? '').toString('base64url')
  const secure = isSecure ? '; Secure' : ''
  const seconds = text === null ? 0 : PENDING_S
  return `${PENDING}=${value}; Path=${basePath}/; HttpOnly; SameSite=Lax; Max-Age=${seconds}${secure}`
}

/** The text in a Cookie header, or null. */
export function pendingLoginOf(header: string | undefined): string | null {
  const value = PENDING_VALUE.exec(header ?? '')?.[1]
  return value === undefined ? null : Buffer.from(value, 'base64url').toString()
}

/**
 * Whether the session's cookie counts for a request: not if the browser reports another page as the origin, including
 * pages of the same site and those of `--cors-origins`.
 */
export function countsSession(headers: IncomingHttpHeaders): boolean {
  const { origin, host, 'sec-fetch-site': from } = headers
  if (origin !== undefined) return isOwnOrigin(origin, host)
  return from === undefined || from === 'same-origin' || from === 'none'
}

/** Whether the browser reports a page of this server as the origin. */
export function isOwnOrigin(origin: string | undefined, host: string | undefined): boolean {
  return origin !== undefined && host !== undefined && URL.parse(origin)?.host === host
}
