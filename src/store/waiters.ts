import { type After, MACHINE_TIME } from '../task/time.ts'
import type { Turn, TurnAnswer } from './store.ts'

export interface Waiter {
  turn: Turn
  resolve: (answer: TurnAnswer) => void
  /** Set while the store processes the turn's request: its result is the answer, even if the wait ends meanwhile. */
  asking?: Promise<unknown>
}

/** Turns that wait for a task or a cancel, in order of arrival, found by the type or worker that has news. */
export class Waiters {
  readonly #byType = new Map<string, Set<Waiter>>()
  readonly #byWorker = new Map<string, Set<Waiter>>()
  readonly #stop = new Map<Waiter, () => void>()
  readonly #after: After

  constructor(after: After = MACHINE_TIME.after) {
    this.#after = after
  }

  get size(): number {
    return this.#stop.size
  }

  /** Waits until `take` removes it, its time is over or its signal fires. */
  add(waiter: Waiter): void {
    const { turn, resolve } = waiter
    const giveUp = async () => {
      await waiter.asking
      if (this.#stop.has(waiter)) this.take(waiter)
      resolve(emptyAnswer())
    }
    if (turn.signal?.aborted) {
      resolve(emptyAnswer())
      return
    }
    const callOff = this.#after(turn.waitMs ?? 0, giveUp)
    turn.signal?.addEventListener('abort', giveUp, { once: true })
    this.#stop.set(waiter, () => {
      callOff()
      turn.signal?.removeEventListener('abort', giveUp)
    })
    for (const type of typesOf(turn)) insert(this.#byType, type, waiter)
    insert(this.#byWorker, turn.worker.id, waiter)
  }

  /** Removes a waiter; the caller answers it. */
  take(waiter: Waiter): void {
    this.#stop.get(waiter)?.()
    this.#stop.delete(waiter)
    for (const type of typesOf(waiter.turn)) remove(this.#byType, type, waiter)
    remove(this.#byWorker, waiter.turn.worker.id, waiter)
  }

  ofType(type: string): Iterable<Waiter> {
    return [...(this.#byType.get(type) ?? [])]
  }

  ofWorker(workerId: string): Iterable<Waiter> {
    return [...(this.#byWorker.get(workerId) ?? [])]
  }

  types(): string[] {
    return [...this.#byType.keys()]
  }

  workers(): string[] {
    return [...this.#byWorker.keys()]
  }

  /** Ends every wait with an empty answer. */
  close(): void {
    for (const waiter of [...this.#stop.keys()]) {
      this.take(waiter)
      waiter.resolve(emptyAnswer())
    }
  }
}

export function emptyAnswer(): TurnAnswer {
  return { settled: [], renewed: [], leases: [], cancelRequested: [] }
}

export function isEmpty({ leases, cancelRequested, settled, renewed }: TurnAnswer): boolean {
  return leases.length + cancelRequested.length + settled.length + renewed.length === 0
}

function typesOf(turn: Turn): readonly string[] {
  return turn.want > 0 ? (turn.types ?? turn.worker.types) : []
}

function insert(index: Map<string, Set<Waiter>>, key: string, waiter: Waiter): void {
  const waiters = index.get(key)
  if (waiters) waiters.add(waiter)
  else index.set(key, new Set([waiter]))
}

function remove(index: Map<string, Set<Waiter>>, key: string, waiter: Waiter): void {
  const waiters = index.get(key)
  waiters?.delete(waiter)
  if (waiters?.size === 0) index.delete(key)
}
