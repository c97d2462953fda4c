import { afterEach, beforeEach, describe } from 'vitest'
import { STORE_DEFAULTS, type StoreOptions } from '../../src/store/store.ts'
import { changeContract } from './change.ts'
import { documentsContract } from './documents.ts'
import { inspectContract } from './inspect.ts'
import type { OpenedStore, StoreFixture } from './store-fixture.ts'

/** What the queue relies on in a store, beside the contract of the queue: one file for each operation of the port. */
export function storeContract(name: string, open: (options: StoreOptions) => Promise<OpenedStore>): void {
  describe(name, () => {
    const start = async (more: Partial<StoreOptions> = {}) => {
      Object.assign(fixture, await open({ ...STORE_DEFAULTS, clock: () => fixture.now, ...more }))
    }
    const restart = async (more: Partial<StoreOptions>) => {
      await fixture.store.close()
      await start(more)
    }
    const fixture = { now: 0, restart } as StoreFixture
    beforeEach(() => {
      fixture.now = 1_700_000_000_000
      return start()
    })
    afterEach(() => fixture.store.close())

    changeContract(fixture)
    documentsContract(fixture)
    inspectContract(fixture)
  })
}
