import type { ServerResponse } from 'node:http'
import { XQueueError } from '../task/errors.ts'

/** Counts what the long calls of each caller hold until they close. */
export class CallerQuota {
  readonly #max: number
  readonly #detail: string
  readonly #counts = new Map<string, number>()

  /** @param detail why more is refused, and what to do */
  constructor(max: number, detail: string) {
    this.#max = max
    this.#detail = detail
  }

  /**
   * Counts until `out` closes.
   * @throws XQueueError `too_many_calls`
   */
  add(caller: string, out: ServerResponse, count = 1): void {
    if (out.destroyed) return
    this.take(caller, count)
    out.once('close', () => this.give(caller, count))
  }

  /** @throws XQueueError `too_many_calls` */
  take(caller: string, count: number): void {
    const held = (this.#counts.get(caller) ?? 0) + count
    if (held > this.#max) throw new XQueueError('too_many_calls', this.#detail, { retry_after: 1 })
    this.#counts.set(caller, held)
  }

  give(caller: string, count: number): void {
    const left = this.#counts.get(caller)! - count
    if (left > 0) this.#counts.set(caller, left)
    else this.#counts.delete(caller)
  }
}

const STREAMS_MAX = 100

export function streamQuota(): CallerQuota {
  const detail = `this caller has ${STREAMS_MAX} open event streams, the maximum: close one, or use MQTT`
  return new CallerQuota(STREAMS_MAX, detail)
}
