import type { Health } from '../engine.ts'
import type { Reply } from './link.ts'
import type { RedisStore } from './store.ts'

/** Whether Redis answers and keeps what it is given, and what that survives. */
export async function healthOf(store: RedisStore): Promise<Health> {
  const started = performance.now()
  try {
    await store.run<Reply>('about', 0, [1, '-', ''])
    const tookMs = performance.now() - started
    const [memory, persistence] = await Promise.all([store.link.info('memory'), store.link.info('persistence')])
    const policy = infoOf(memory, 'maxmemory_policy') ?? 'noeviction'
    const checks = [
      { name: 'storage', ok: true, detail: `reachable, one step took ${tookMs.toFixed(1)} ms` },
      {
        name: 'eviction',
        ok: policy === 'noeviction',
        detail: `maxmemory-policy is ${policy}${policy === 'noeviction' ? '' : ': set it to noeviction, or tasks are lost'}`,
      },
    ]
    return { engine: 'redis', durability: durabilityOf(persistence), checks }
  } catch (error) {
    const check = { name: 'storage', ok: false, detail: error instanceof Error ? error.message : String(error) }
    return { engine: 'redis', durability: 'unknown while Redis cannot be reached', checks: [check] }
  }
}

function durabilityOf(persistence: string): string {
  if (infoOf(persistence, 'aof_enabled') !== '1') {
    return 'lost when Redis ends: turn the append-only file on (appendonly yes) to keep tasks'
  }
  const failed = infoOf(persistence, 'aof_last_write_status') !== 'ok'
  if (failed) return 'the append-only file cannot be written: see the log of Redis'
  return 'survives the end of Redis; with appendfsync everysec the last second may be lost with the power'
}

function infoOf(info: string, name: string): string | undefined {
  return new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1]
}
