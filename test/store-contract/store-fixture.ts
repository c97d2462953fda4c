import type { HandlerSettings, Store, StoreOptions } from '../../src/store/store.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'

/** A fresh store; `second` opens it once more, as another process would. */
export interface OpenedStore {
  store: Store
  second: () => Promise<Store>
}

/** Each test gets a fresh store, and moves its clock. */
export interface StoreFixture extends Readonly<OpenedStore> {
  now: number
  /** Begins again with a fresh store that has other options. */
  restart(options: Partial<StoreOptions>): Promise<void>
}

export const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 9, startedAt: 0 }

/** Declares the type `t`. */
export function declare(store: Store, more: Partial<HandlerSettings> = {}): Promise<void> {
  const limits = { maxConcurrency: null, groupConcurrency: null, rate: null, retry: RETRY_DEFAULTS }
  return store.configureType('t', { handler: { ...limits, payloadSchema: null, defaults: {}, ...more } })
}

/** Submits tasks of the type `t`; returns their ids. */
export async function submitTo(store: Store, specs: readonly Partial<TaskSpec>[]): Promise<string[]> {
  await declare(store)
  const submitted = await store.submit(specs.map((spec) => completeSpec({ type: 't', ...spec })))
  return submitted.map(({ task }) => task.id)
}
