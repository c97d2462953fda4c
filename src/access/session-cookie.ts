const NAME = 'xqueue_session'
const VALUE = new RegExp(`(?:^|; *)${NAME}=([\\w-]{1,100})(?:;|$)`)

/** The session's token in a Cookie header. */
export function sessionOf(header: string | undefined): string | null {
  return VALUE.exec(header ?? '')?.[1] ?? null
}

/**
 * Not readable by scripts, and sent with no request that another site makes.
 * @param seconds 0 removes it
 */
export function sessionCookie(token: string, seconds: number, isSecure: boolean): string {
  const secure = isSecure ? '; Secure' : ''
  return `${NAME}=${token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${seconds}${secure}`
}

/** Whether a browser says that a page of this very server asks: only then a cookie counts. */
export function isOwnOrigin(origin: string | undefined, host: string | undefined): boolean {
  return origin !== undefined && host !== undefined && URL.parse(origin)?.host === host
}
