import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from './ports.ts'
import { endAtExit, removeAtExit } from './processes.ts'
import { type RunningRedis, ready, redisCli, serverProgram, startRedis } from './redis.ts'

export interface WatchedRedis {
  url: string
  master: RunningRedis
  replica: RunningRedis
  sentinelPort: number
  stop(): Promise<void>
}

/** A master that is silent for so long is failed over. */
const DOWN_AFTER_MS = 1_000

/** A master, a replica of it, and one sentinel that decides alone. */
export async function startSentinel(...flags: string[]): Promise<WatchedRedis> {
  const master = await startRedis(...flags)
  const replica = await startRedis(
    '--replicaof',
    `127.0.0.1 ${master.port}`,
    '--repl-diskless-sync-delay',
    '0',
    ...flags,
  )
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-sentinel-')))
  const sentinelPort = await freePort()
  const config = [
    `port ${sentinelPort}`,
    'bind 127.0.0.1',
    `dir ${folder}`,
    `sentinel monitor main 127.0.0.1 ${master.port} 1`,
    `sentinel down-after-milliseconds main ${DOWN_AFTER_MS}`,
    'sentinel failover-timeout main 5000',
  ]
  writeFileSync(join(folder, 'sentinel.conf'), config.join('\n'))
  const sentinel = endAtExit(
    spawn(serverProgram(), [join(folder, 'sentinel.conf'), '--sentinel'], { stdio: ['ignore', 'pipe', 'inherit'] }),
  )
  const stop = async () => {
    sentinel.kill('SIGKILL')
    await Promise.all([master.stop(), replica.stop()])
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    await ready(sentinel, 'Sentinel ID is')
    // It learns of replicas by asking the master.
    while (!redisCli(sentinelPort, 'SENTINEL', 'REPLICAS', 'main').includes('master-link-status\nok')) {
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  } catch (error) {
    await stop()
    throw error
  }
  return { url: `redis+sentinel://127.0.0.1:${sentinelPort}/main`, master, replica, sentinelPort, stop }
}
