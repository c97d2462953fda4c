import type { AuthenticateError, Client } from 'aedes'
import { XQueueError } from '../task/errors.ts'
import type { Admission, Admit } from './live.ts'

type Done = (error: AuthenticateError | null, success: boolean | null) => void

/** Return codes of MQTT 3.1.1. */
const UNAVAILABLE = 3
const NOT_AUTHORIZED = 5

/** By what right the clients of the embedded broker are there. They are cut off when it ends. */
export class Guests {
  readonly #admit: Admit
  readonly #admissions = new WeakMap<Client, Admission>()

  constructor(admit: Admit) {
    this.#admit = admit
  }

  admit(client: Client, password: Readonly<Buffer | undefined>, done: Done): void {
    const { remoteAddress: address = null } = client.conn as unknown as { remoteAddress?: string | null }
    this.#admit({ password: password?.toString() ?? null, request: client.req, address: address ?? null }).then(
      (admission) => {
        if (client.closed) return
        this.#admissions.set(client, admission)
        client.conn.once(
          'close',
          admission.lapses(() => client.close()),
        )
        done(null, true)
      },
      (refusal: Error) => {
        const isAway = refusal instanceof XQueueError && refusal.status === 503
        done(Object.assign(refusal, { returnCode: isAway ? UNAVAILABLE : NOT_AUTHORIZED }), false)
      },
    )
  }

  admissionOf(client: Client): Admission | undefined {
    return this.#admissions.get(client)
  }

  hears(client: Client, filter: string): boolean {
    return this.#admissions.get(client)?.hears(filter) ?? false
  }
}
