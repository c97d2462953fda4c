import { afterEach, beforeEach, describe, it } from 'vitest'
import { redisCli, roleOf } from '../fixtures/redis.ts'
import { startSentinel, type WatchedRedis } from '../fixtures/redis-sentinel.ts'
import { expectKept, Load, WAIT_MS } from './load.ts'

let watched: WatchedRedis
let load: Load
beforeEach(async () => {
  watched = await startSentinel()
  load = await Load.start(`${watched.url}?wait_ms=${WAIT_MS}`)
})
afterEach(async () => {
  await load?.stop()
})

/** Upper bound for the writes that a master has acknowledged and not yet replicated when it dies. */
const BEHIND_MS = 1_000
/** Upper bound for the time until clients notice the failover. */
const NOTICE_MS = 500

describe('Sentinel fails over under load', () => {
  it('continues with the new master when the old one dies, and loses only writes that were not replicated', async () => {
    await load.progress()
    const at = Date.now()
    await watched.master.kill()
    const mayLose = [{ from: at - BEHIND_MS, to: Date.now() }]
    await load.progress()
    expectKept('Sentinel, master killed', { ...(await load.finish()), mayLose }, 1)
  })

  it('leaves a running master as soon as the sentinel names another', async () => {
    const { sentinelPort, master, replica } = watched
    await load.progress()
    const from = Date.now() - BEHIND_MS
    redisCli(sentinelPort, 'SENTINEL', 'FAILOVER', 'main')
    const named = () => redisCli(sentinelPort, 'SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'main')
    await load.until(() => named().includes(String(replica.port)), 'the sentinel names the other one')
    const mayLose = [{ from, to: Date.now() + NOTICE_MS }]
    // Until it becomes a replica, it still accepts writes.
    await load.until(() => roleOf(master.port) === 'slave', 'the old master is a replica')
    await load.progress()
    expectKept('Sentinel, changed over', { ...(await load.finish()), mayLose }, 1)
  })
})
