import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeAtExit } from '../fixtures/processes.ts'
import { redisCli, startRedis } from '../fixtures/redis.ts'

/** Where a soak keeps its tasks. */
export interface SoakStore {
  url: string
  /** Bytes in total, and of the database alone: for SQLite the file without its log. */
  bytes(): { storeBytes: number; databaseBytes: number }
  stop(): Promise<void>
}

export async function openStore(engine: string): Promise<SoakStore> {
  if (engine === 'redis') {
    const redis = await startRedis()
    const bytes = () => {
      const used = Number(/used_memory:(\d+)/.exec(redisCli(redis.port, 'INFO', 'memory'))![1])
      return { storeBytes: used, databaseBytes: used }
    }
    return { url: redis.url, bytes, stop: redis.stop }
  }
  if (engine !== 'sqlite') throw new Error(`--engine ${engine}: it is sqlite or redis`)
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-soak-')))
  const [database, log] = [join(folder, 'x.db'), join(folder, 'x.db-wal')]
  const size = (file: string) => (existsSync(file) ? statSync(file).size : 0)
  return {
    url: `sqlite:${database}`,
    bytes: () => ({ storeBytes: size(database) + size(log), databaseBytes: size(database) }),
    stop: async () => rmSync(folder, { recursive: true, force: true }),
  }
}
