import { afterEach, describe, it } from 'vitest'
import { redisCli } from '../services/redis.ts'
import { startSentinel, type WatchedRedis } from '../services/redis-sentinel.ts'
import { expectKept, Load, WAIT_MS } from './load.ts'

let watched: WatchedRedis
let load: Load
afterEach(async () => {
  await load?.stop()
  await watched?.stop()
})

/** What a master has answered for and not yet sent to its replica when it dies: far more than it is. */
const BEHIND_MS = 1_000

describe('Sentinel fails over under a load', () => {
  it('goes on with the new master, and keeps all but what the old one had not passed on', async () => {
    watched = await startSentinel()
    load = await Load.start(`${watched.url}?wait_ms=${WAIT_MS}`)
    await load.progress()
    const at = Date.now()
    await watched.master.kill()
    const mayLose = [{ from: at - BEHIND_MS, to: Date.now() }]
    await load.progress()
    // And back, this time while both live: whoever still speaks to the old one is told that it is a replica.
    await watched.master.start()
    const { sentinelPort, master, replica } = watched
    const isSynced = () => redisCli(master.port, 'INFO', 'replication').includes('master_link_status:up')
    await load.until(isSynced, 'the old master is a replica')
    const from = Date.now() - BEHIND_MS
    const failOver = () => !redisCli(sentinelPort, 'SENTINEL', 'FAILOVER', 'main').includes('NOGOODSLAVE')
    await load.until(failOver, 'the sentinel agrees to fail over')
    await load.until(() => redisCli(replica.port, 'ROLE').startsWith('slave'), 'the other one is a replica')
    mayLose.push({ from, to: Date.now() })
    await load.progress()
    expectKept('Sentinel', { ...(await load.finish()), mayLose }, 2)
  })
})
