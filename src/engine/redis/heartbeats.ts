import type { WorkerIdentity } from '../engine.ts'
import type { Part } from './turn-codec.ts'

/** A worker's description is written again only when this old, not with every turn. */
const TOUCH_MS = 20_000

/** What Redis was told of this process's workers, and what it will be told next. */
export class Heartbeats {
  readonly #told = new Map<string, { at: number; types: readonly string[] }>()
  /** Attempts of workers since they were described last. */
  readonly #worked = new Map<string, Part['worked']>()

  /** What has to be told of a worker, or '' if that has been told lately. */
  aboutOf(worker: WorkerIdentity, now: number): string {
    const before = this.#told.get(worker.id)
    if (before && isSame(before.types, worker.types) && now - before.at < TOUCH_MS && now >= before.at) return ''
    return JSON.stringify(worker)
  }

  told({ id, types }: WorkerIdentity, now: number): void {
    this.#told.set(id, { at: now, types })
  }

  /** It is told again; false if it was going to be anyway. */
  forget(workerId: string): boolean {
    return this.#told.delete(workerId)
  }

  forgetAll(): void {
    this.#told.clear()
  }

  left(workerId: string): void {
    this.#told.delete(workerId)
    this.#worked.delete(workerId)
  }

  addWorked(workerId: string, { well, failed }: Part['worked']): void {
    const worked = this.#worked.get(workerId) ?? { well: 0, failed: 0 }
    this.#worked.set(workerId, { well: worked.well + well, failed: worked.failed + failed })
  }

  /** Hands over what was added, to be told to one partition. */
  takeWorked(workerId: string): Part['worked'] | undefined {
    const worked = this.#worked.get(workerId)
    this.#worked.delete(workerId)
    return worked
  }
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a === b || String(a) === String(b)
}
