import { hash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { XQueueError } from '../task/errors.ts'
import type { Access } from './access.ts'
import type { AuditLog } from './audit.ts'
import type { ClientAddress } from './client-address.ts'
import { may, notAllowed, notSignedIn, type Principal, sightOf } from './principal.ts'
import { isOwnOrigin, sessionOf } from './session-cookie.ts'
import { topicsOf } from './subscription.ts'

interface Admission {
  access: Access
  audit: AuditLog
  addressOf: ClientAddress
}

/** Credentials of an MQTT client. */
interface Login {
  password: string | null
  /** Headers of a WebSocket. */
  request: IncomingMessage | undefined
  /** Address of the connection. */
  address: string | null
}

/**
 * Authentication of MQTT clients: the password is a key or a token, with any user name. Pages of this server use the
 * session of the logged-in user. The scope `read` allows all topics, a subscription token its own topics only.
 */
export function admitListeners({ access, audit, addressOf }: Admission, prefix: string) {
  return async ({ password, request, address }: Login) => {
    const refused = (principal: Principal | null, error: unknown) => {
      const ip = request ? addressOf(request) : address
      const isRefusal = error instanceof XQueueError && (error.status === 401 || error.status === 403)
      const audited = { action: 'MQTT CONNECT', target: null, status: null, ip }
      if (isRefusal) audit.refused(principal, audited, error.message)
      throw error
    }
    const principal = await listenerOf(access, password, request).catch((error) => refused(null, error))
    if (!may(principal, 'listen')) return refused(principal, notAllowed(principal, 'listen'))
    await access.spend(principal)
    const { interests } = principal
    const topics = interests && topicsOf(interests, prefix)
    // Each token has its own budget, although it names its key, so that it does not use up the key's budget.
    const kind = interests ? ('token' as const) : ('key' as const)
    return {
      ...sightOf(principal),
      kind,
      principal: interests ? `token:${hash('sha256', password ?? '', 'base64url')}` : principal.id,
      maySubscribe: (filter: string) => topics === null || topics.some((topic) => lies(filter, topic)),
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

/** Whether a filter is within a topic, which may end in `#`. */
function lies(filter: string, topic: string): boolean {
  return topic.endsWith('#') ? filter.startsWith(topic.slice(0, -1)) : filter === topic
}
