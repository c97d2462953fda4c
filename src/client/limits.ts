import type { Duration } from '../worker/handler.ts'
import { answerOf } from './answer.ts'
import { call, type Server } from './call.ts'
import { type Holder, holderOf } from './explanation.ts'

/** At most `max` starts in any window of `per` seconds. */
export interface Rate {
  max: number
  per: number
}

/**
 * A named limit (`gpu`, `tenant/*` for each key, `tenant/acme` for one), or that of a type (`type:TYPE`), of each of
 * its groups (`group:TYPE/*`), or of one group (`group:TYPE/GROUP`).
 */
export interface Limit {
  name: string
  /** Units held at once: running tasks, or their weights; null: no limit. */
  max: number | null
  rate: Rate | null
  /** No task starts until it is resumed. */
  paused: boolean
  /** No task starts before this time; null: not held. */
  heldUntil: Date | null
  /** Units in use; null for `…/*`. */
  inUse: number | null
  /** Ready tasks that use it; null for groups and `…/*`. */
  waiting: number | null
}

/** Of a named limit with the units and the type. */
export type LimitHolder = Holder & { units?: number; type?: string }

/** Missing fields stay unchanged; null removes one. */
export interface LimitChanges {
  max?: number | null
  rate?: { max: number; per: Duration } | null
}

/**
 * The limits of a server: `client.limits`. Changes are in force over all processes, and need a key with the scope
 * `admin`.
 */
export class LimitClient {
  readonly #server: Server

  constructor(server: Server) {
    this.#server = server
  }

  /** The limits that are set, and the types that are paused or held. */
  async list(): Promise<Limit[]> {
    return (await call<{ limits: object[] }>(this.#server, 'GET', '/limits')).limits.map(limitOf)
  }

  /** One limit with the tasks that hold its permits and those that wait. @throws XQueueError `not_found` */
  async get(name: string): Promise<Limit & { holders: LimitHolder[]; waiters: string[] }> {
    const answer = await call<{ holders: object[]; waiters: string[] }>(this.#server, 'GET', pathOf(name))
    return { ...limitOf(answer), holders: answer.holders.map(holderOf), waiters: answer.waiters }
  }

  /** Creates a named limit, or changes a limit. */
  set(name: string, changes: LimitChanges): Promise<Limit> {
    return this.#change('PUT', pathOf(name), changes)
  }

  /** Starts no task that uses it until the time has passed, at most 24 hours; 0 ends the hold. */
  hold(name: string, time: Duration): Promise<Limit> {
    return this.#change('POST', `${pathOf(name)}/hold`, { for: time })
  }

  pause(name: string): Promise<Limit> {
    return this.#change('POST', `${pathOf(name)}/pause`)
  }

  /** Ends its pause and its hold. */
  resume(name: string): Promise<Limit> {
    return this.#change('POST', `${pathOf(name)}/resume`)
  }

  /** Removes a named limit, or the maximum and the rate of a type. @throws XQueueError `limit_in_use` */
  remove(name: string): Promise<Limit> {
    return this.#change('DELETE', pathOf(name))
  }

  async #change(method: string, path: string, body?: object): Promise<Limit> {
    return limitOf(await call(this.#server, method, path, body))
  }
}

function pathOf(name: string): string {
  return `/limits/${encodeURIComponent(name)}`
}

function limitOf(json: object): Limit {
  return answerOf(json, ['heldUntil'])
}
