import type { WorkerIdentity } from '../../store.ts'
import type { Part } from './turn-codec.ts'

/** A worker's description is written again only when it is this old, not with every turn. */
const TOUCH_MS = 20_000

/** The descriptions of this process's workers that Redis has, and the changes to send next. */
export class Heartbeats {
  readonly #written = new Map<string, { at: number; types: readonly string[] }>()
  /** Attempts of workers since their description was written last. */
  readonly #worked = new Map<string, Part['worked']>()
  readonly #ttlMs: number
  #forgetsAt = 0

  /** @param ttlMs after this time without a call, a worker counts as gone */
  constructor(ttlMs: number) {
    this.#ttlMs = ttlMs
  }

  /** The description of a worker to send, or '' if Redis has a recent one. */
  aboutOf(worker: WorkerIdentity, now: number): string {
    const before = this.#written.get(worker.id)
    if (before && isSame(before.types, worker.types) && now - before.at < TOUCH_MS && now >= before.at) return ''
    return JSON.stringify(worker)
  }

  written({ id, types }: WorkerIdentity, now: number): void {
    this.#written.set(id, { at: now, types })
    if (now >= this.#forgetsAt) this.#forgetGone(now)
  }

  #forgetGone(now: number): void {
    this.#forgetsAt = now + this.#ttlMs
    for (const [id, { at }] of this.#written) if (now - at > this.#ttlMs) this.#written.delete(id)
    for (const id of this.#worked.keys()) if (!this.#written.has(id)) this.#worked.delete(id)
  }

  /** Marks the description to be sent again; false if that was already due. */
  forget(workerId: string): boolean {
    return this.#written.delete(workerId)
  }

  forgetAll(): void {
    this.#written.clear()
  }

  left(workerId: string): void {
    this.#written.delete(workerId)
    this.#worked.delete(workerId)
  }

  addWorked(workerId: string, { well, failed }: Part['worked']): void {
    const worked = this.#worked.get(workerId) ?? { well: 0, failed: 0 }
    this.#worked.set(workerId, { well: worked.well + well, failed: worked.failed + failed })
  }

  /** Returns the gathered attempts, to be sent to one partition. */
  takeWorked(workerId: string): Part['worked'] | undefined {
    const worked = this.#worked.get(workerId)
    this.#worked.delete(workerId)
    return worked
  }
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a === b || String(a) === String(b)
}
