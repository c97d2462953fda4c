import type { Health } from '../engine.ts'
import { type Store, storeError } from './store.ts'

/** @param write writes something, durably */
export async function healthOf(store: Store, write: () => Promise<unknown>): Promise<Health> {
  const started = performance.now()
  let check = { name: 'storage', ok: true, detail: '' }
  try {
    await write()
    check.detail = `writable, one step took ${(performance.now() - started).toFixed(1)} ms`
  } catch (error) {
    check = { name: 'storage', ok: false, detail: storeError(error, store.path).message }
  }
  const file = store.sync.isOn
    ? 'survives a crash of the process and a power loss (WAL, synced before it is acknowledged, as synchronous=FULL)'
    : 'survives a crash of the process; the last moments before a power loss may be lost (WAL, synchronous=NORMAL)'
  return { engine: 'sqlite', durability: store.inMemory ? 'lives as long as this process' : file, checks: [check] }
}
