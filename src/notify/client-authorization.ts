import type { AuthenticateError, Client } from 'aedes'
import { XQueueError } from '../task/errors.ts'
import { BUDGETS, Budgets } from './budgets.ts'
import type { Authorization, Authorize } from './live.ts'

type Done = (error: AuthenticateError | null, success: boolean | null) => void

/** Return codes of MQTT 3.1.1. */
const UNAVAILABLE = 3
const NOT_AUTHORIZED = 5

/** Authorization of the embedded broker's clients. They are disconnected when it ends. */
export class ClientAuthorization {
  readonly #authorize: Authorize
  readonly #authorizations = new WeakMap<Client, Authorization>()
  readonly #budgets: Budgets<Client>

  /** @param filtersOf how many filters a client has */
  constructor(admit: Authorize, filtersOf: (client: Client) => number) {
    this.#authorize = admit
    this.#budgets = new Budgets(filtersOf)
  }

  admit(client: Client, password: Readonly<Buffer | undefined>, done: Done): void {
    const { remoteAddress: address = null } = client.conn as unknown as { remoteAddress?: string | null }
    this.#authorize({ password: password?.toString() ?? null, request: client.req, address: address ?? null }).then(
      (admission) => {
        if (client.closed) return
        const { principal, kind } = admission
        if (!this.#budgets.connect(principal, kind, client)) {
          const most = BUDGETS.connections[kind]
          done(
            Object.assign(new Error(`${principal} has ${most} connections, the maximum`), { returnCode: UNAVAILABLE }),
            false,
          )
          return
        }
        client.conn.once('close', () => this.#budgets.leave(principal, client))
        // A client id in use ends the earlier connection, so the ids of principals are separate.
        Object.assign(client, { id: `${principal} ${client.id}` })
        this.#authorizations.set(client, admission)
        client.conn.once(
          'close',
          admission.lapses(() => client.close()),
        )
        done(null, true)
      },
      (refusal: Error) => {
        const isAway = refusal instanceof XQueueError && (refusal.status === 503 || refusal.status === 429)
        done(Object.assign(refusal, { returnCode: isAway ? UNAVAILABLE : NOT_AUTHORIZED }), false)
      },
    )
  }

  authorizationOf(client: Client): Authorization | undefined {
    return this.#authorizations.get(client)
  }

  /** Whether a client may subscribe, within its budget. A client that continues after refusals is disconnected. */
  maySubscribe(client: Client, filter: string): boolean {
    const admission = this.#authorizations.get(client)
    if (!admission) return false
    const answer = this.#budgets.subscribe(admission.principal, filter)
    if (answer === 'disconnect') client.conn.destroy(new Error('the client subscribes too often'))
    return answer === 'allowed' && admission.maySubscribe(filter)
  }
}
