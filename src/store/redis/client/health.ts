import type { Health } from '../../store.ts'
import type { Database } from './database.ts'

type Check = Health['checks'][number]

/** Whether Redis answers and stores data, and which failures the data survives: of every node that serves. */
export async function healthOf(database: Database): Promise<Health> {
  const started = performance.now()
  try {
    const [infos, fsyncs] = await Promise.all([
      database.link.info('memory', 'persistence'),
      database.link.setting('appendfsync'),
    ])
    const tookMs = performance.now() - started
    const reachable = { name: 'storage', ok: true, detail: `reachable, one step took ${tookMs.toFixed(1)} ms` }
    const checks = [reachable, worst(infos.map(evictionOf)), worst(infos.map(memoryOf))]
    const durabilities = infos.map((info, index) => durabilityOf(info, fsyncs[index]))
    return { engine: 'redis', durability: durabilities.sort((a, b) => a[0] - b[0])[0]![1], checks }
  } catch (error) {
    const check = { name: 'storage', ok: false, detail: error instanceof Error ? error.message : String(error) }
    return { engine: 'redis', durability: 'unknown while Redis cannot be reached', checks: [check] }
  }
}

function evictionOf(info: string): Check {
  const policy = infoOf(info, 'maxmemory_policy') ?? 'noeviction'
  const ok = policy === 'noeviction'
  const detail = `maxmemory-policy is ${policy}${ok ? '' : ': set it to noeviction, or tasks are lost'}`
  return { name: 'eviction', ok, detail }
}

function memoryOf(info: string): Check {
  const [used, most] = [Number(infoOf(info, 'used_memory')), Number(infoOf(info, 'maxmemory'))]
  const ok = most === 0 || used < most
  const of = most === 0 ? 'no maxmemory is set' : `${megabytes(used)} of ${megabytes(most)} MB are used`
  return { name: 'memory', ok, detail: ok ? of : `${of}: submissions are refused until memory is free` }
}

/** A lower rank is worse. */
function durabilityOf(info: string, fsync: string | undefined): [rank: number, what: string] {
  if (infoOf(info, 'aof_enabled') !== '1') {
    return [0, 'lost when Redis ends: enable the append-only file (appendonly yes) to keep tasks']
  }
  if (infoOf(info, 'aof_last_write_status') !== 'ok') {
    return [1, 'the append-only file cannot be written: check the log of Redis']
  }
  switch (fsync) {
    case 'always':
      return [5, 'survives a power loss (appendfsync always)']
    case 'everysec':
      return [4, 'survives a crash of Redis; some tasks of the last second before a power loss may be lost']
    case 'no':
      return [2, 'survives a crash of Redis; the last half minute before a power loss may be lost (appendfsync no)']
    default:
      return [3, 'survives a crash of Redis; the last second before a power loss may be lost (appendfsync everysec)']
  }
}

function worst(checks: Check[]): Check {
  return checks.find(({ ok }) => !ok) ?? checks[0]!
}

function megabytes(bytes: number): string {
  return (bytes / 1_048_576).toFixed(0)
}

function infoOf(info: string, name: string): string | undefined {
  return new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1]
}
