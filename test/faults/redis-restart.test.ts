import { afterEach, describe, it } from 'vitest'
import { type RunningRedis, startRedis } from '../services/redis.ts'
import { expectKept, Load, repeatedly, WAIT_MS } from './load.ts'

let redis: RunningRedis
let load: Load
afterEach(async () => {
  await load?.stop()
  await redis?.stop()
})

/** What appendfsync everysec may lose, and what it takes to notice. */
const EVERYSEC_MS = 2_000

describe('Redis is killed under a load and starts again', () => {
  it('loses nothing that was acknowledged with appendfsync always', async () => {
    redis = await startRedis('--appendonly', 'yes', '--appendfsync', 'always')
    const url = `${redis.url}?wait_ms=${WAIT_MS}`
    load = await Load.start(url)
    const faults = await repeatedly(async () => {
      await load.progress()
      await redis.kill()
      await redis.start()
    })
    await load.progress()
    expectKept('killed, AOF always', await load.finish(), faults)
  })

  it('keeps all but the last moments with appendfsync everysec, and a history without contradiction', async () => {
    redis = await startRedis('--appendonly', 'yes', '--appendfsync', 'everysec')
    const url = `${redis.url}?wait_ms=${WAIT_MS}`
    load = await Load.start(url)
    const mayLose: { from: number; to: number }[] = []
    const faults = await repeatedly(async () => {
      await load.progress()
      const to = Date.now()
      await redis.kill()
      mayLose.push({ from: to - EVERYSEC_MS, to: Date.now() })
      await redis.start()
    })
    await load.progress()
    expectKept('killed, AOF everysec', { ...(await load.finish()), mayLose }, faults)
  })
})
