import type { Health } from '../../store.ts'
import { type Database, storeError } from './database.ts'

/** @param write writes something, durably */
export async function healthOf(database: Database, write: () => Promise<unknown>): Promise<Health> {
  const started = performance.now()
  let check = { name: 'storage', ok: true, detail: '' }
  try {
    await write()
    check.detail = `writable, one step took ${(performance.now() - started).toFixed(1)} ms`
  } catch (error) {
    check = { name: 'storage', ok: false, detail: storeError(error, database.path).message }
  }
  const file = database.sync.isOn
    ? 'survives a crash of the process and a power loss (WAL, synced before it is acknowledged, as synchronous=FULL)'
    : 'survives a crash of the process; the last moments before a power loss may be lost (WAL, synchronous=NORMAL)'
  return { engine: 'sqlite', durability: database.inMemory ? 'lives as long as this process' : file, checks: [check] }
}
