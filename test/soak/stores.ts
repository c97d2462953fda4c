import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeAtExit } from '../services/processes.ts'
import { redisCli, startRedis } from '../services/redis.ts'

/** Where a soak keeps its tasks. */
export interface SoakStore {
  url: string
  bytes(): number
  stop(): Promise<void>
}

export async function openStore(engine: string): Promise<SoakStore> {
  if (engine === 'redis') {
    const redis = await startRedis()
    const bytes = () => Number(/used_memory:(\d+)/.exec(redisCli(redis.port, 'INFO', 'memory'))![1])
    return { url: redis.url, bytes, stop: redis.stop }
  }
  if (engine !== 'sqlite') throw new Error(`--engine ${engine}: it is sqlite or redis`)
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-soak-')))
  const files = ['x.db', 'x.db-wal'].map((name) => join(folder, name))
  return {
    url: `sqlite:${files[0]}`,
    bytes: () => files.reduce((sum, file) => sum + (existsSync(file) ? statSync(file).size : 0), 0),
    stop: async () => rmSync(folder, { recursive: true, force: true }),
  }
}
