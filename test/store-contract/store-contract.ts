import { afterEach, beforeEach, describe } from 'vitest'
import { STORE_DEFAULTS, type Store, type StoreOptions } from '../../src/store/store.ts'
import { changeContract } from './change.ts'
import { inspectContract } from './inspect.ts'
import type { StoreFixture } from './store-fixture.ts'

/** What the queue relies on in a store, beside the contract of the queue: one file for each operation of the port. */
export function storeContract(name: string, open: (options: StoreOptions) => Promise<Store>): void {
  describe(name, () => {
    const fixture = { now: 0 } as { -readonly [Key in keyof StoreFixture]: StoreFixture[Key] }
    beforeEach(async () => {
      fixture.now = 1_700_000_000_000
      fixture.store = await open({ ...STORE_DEFAULTS, clock: () => fixture.now })
    })
    afterEach(() => fixture.store.close())

    changeContract(fixture)
    inspectContract(fixture)
  })
}
