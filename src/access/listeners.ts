import type { IncomingMessage } from 'node:http'
import type { Access } from './access.ts'
import { may, notAllowed, notSignedIn, type Principal } from './principal.ts'
import { isOwnOrigin, sessionOf } from './session-cookie.ts'
import { topicsOf } from './subscription.ts'

/**
 * Who may listen over MQTT: the password is a key or a token, whatever the user is called; a page of this server's own
 * that somebody has logged in to needs none. The scope `read` hears everything, a subscription token what it names.
 */
export function admitListeners(access: Access, prefix: string) {
  return async (password: string | null, request: IncomingMessage | undefined) => {
    const principal = await listenerOf(access, password, request)
    if (!may(principal, 'listen')) throw notAllowed(principal, 'listen')
    const { interests } = principal
    const topics = interests && topicsOf(interests, prefix)
    return {
      hears: (filter: string) => topics === null || topics.some((topic) => lies(filter, topic)),
      lapses: (end: () => void) => access.lapses(principal, end),
    }
  }
}

async function listenerOf(
  access: Access,
  password: string | null,
  request: IncomingMessage | undefined,
): Promise<Principal> {
  if (password) return access.authenticate(password)
  const { origin, host, cookie } = request?.headers ?? {}
  const session = isOwnOrigin(origin, host) ? sessionOf(cookie) : null
  if (session === null) throw notSignedIn()
  return access.bySession(session)
}

/** Whether a filter asks for no more than a topic that ends in `#`, or than exactly one. */
function lies(filter: string, topic: string): boolean {
  return topic.endsWith('#') ? filter.startsWith(topic.slice(0, -1)) : filter === topic
}
