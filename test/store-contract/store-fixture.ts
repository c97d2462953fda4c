import type { HandlerSettings, Store } from '../../src/store/store.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'

/** Each test gets a fresh store, and moves its clock. */
export interface StoreFixture {
  readonly store: Store
  now: number
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
