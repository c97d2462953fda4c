import type { Duration } from '../worker/handler.ts'
import { answerOf } from './answer.ts'
import { call, type Server } from './call.ts'
import { type Holder, holderOf } from './explanation.ts'

/** At most `max` starts in any window of `per` seconds. */
export interface Rate {
  max: number
  per: number
}

/** A limit of a type (`type:TYPE`), of each of its groups (`group:TYPE/*`), or of one group (`group:TYPE/GROUP`). */
export interface Limit {
  name: string
  /** Maximum number of running tasks; null: no limit. */
  max: number | null
  rate: Rate | null
  /** No task starts until it is resumed. */
  paused: boolean
  /** No task starts before this time; null: not held. */
  heldUntil: Date | null
  /** Running tasks; null for `group:TYPE/*`. */
  inUse: number | null
  /** Waiting tasks; null for groups. */
  waiting: number | null
}

/** Missing fields stay unchanged; null removes one. */
export interface LimitChanges {
  max?: number | null
  rate?: { max: number; per: Duration } | null
}

/**
 * The limits of a server: `client.limits`. Changes are in force over all processes, and need a key with the scope
 * `admin`. `client.types` pauses and holds types.
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

  /** One limit with the tasks that hold its permits. @throws XQueueError `not_found` */
  async get(name: string): Promise<Limit & { holders: Holder[] }> {
    const answer = await call<{ holders: object[] }>(this.#server, 'GET', pathOf(name))
    return { ...limitOf(answer), holders: answer.holders.map(holderOf) }
  }

  set(name: string, changes: LimitChanges): Promise<Limit> {
    return this.#change('PUT', pathOf(name), changes)
  }

  /** Removes its maximum and its rate. */
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
