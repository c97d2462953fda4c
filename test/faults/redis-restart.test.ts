import { readdirSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'
import { expectKept, LIMITS, Load, repeatedly, WAIT_MS } from './load.ts'

let redis: RunningRedis
let load: Load
afterEach(async () => {
  await load?.stop()
})

const begin = async (...flags: string[]) => {
  redis = await startRedis(...flags)
  load = await Load.start(`${redis.url}?wait_ms=${WAIT_MS}`)
}
/** The append-only file that Redis is writing to. */
const aof = () => {
  const folder = join(redis.folder, 'appendonlydir')
  return join(folder, readdirSync(folder).find((name) => name.endsWith('.incr.aof'))!)
}

describe('Redis is killed under load and starts again', () => {
  it('loses nothing that was acknowledged with appendfsync always', async () => {
    await begin('--appendonly', 'yes', '--appendfsync', 'always')
    const faults = await repeatedly(async () => {
      await load.progress()
      await redis.kill()
      await redis.start()
    })
    await load.progress()
    expectKept('killed, AOF always', await load.finish(), faults)
  })

  it('loses nothing with appendfsync everysec either: the system keeps its writes', async () => {
    await begin('--appendonly', 'yes', '--appendfsync', 'everysec')
    const faults = await repeatedly(async () => {
      await load.progress()
      await redis.kill()
      await redis.start()
    })
    await load.progress()
    expectKept('killed, AOF everysec', await load.finish(), faults)
  })

  it('loses at most the last moments of a power loss with appendfsync everysec, and stays consistent', async () => {
    await begin('--appendonly', 'yes', '--appendfsync', 'everysec')
    const mayLose: { from: number; to: number }[] = []
    const faults = await repeatedly(async () => {
      await load.progress()
      // Later writes never reached the disk.
      const [from, size] = [Date.now(), statSync(aof()).size]
      await load.progress(50)
      await redis.kill()
      truncateSync(aof(), size)
      // An acknowledgement may be written down a little before or after it was given.
      mayLose.push({ from: from - 100, to: Date.now() })
      await redis.start()
    })
    await load.progress()
    const history = await load.finish()
    expectKept('power lost, AOF everysec', { ...history, mayLose }, faults)
  })

  it('recovers by itself from a Redis that restarts empty: types and limits are declared again', async () => {
    await begin()
    await load.progress()
    await redis.kill()
    const to = Date.now()
    await redis.start()
    const queue = await openQueue(redis.url)
    await load.progress()
    const types = await queue.types()
    await queue.close()
    expect(Object.fromEntries(types.map(({ type, maxConcurrency }) => [type, maxConcurrency]))).toEqual(LIMITS)
    const history = await load.finish()
    expectKept('came back empty', { ...history, mayLose: [{ from: 0, to: to + WAIT_MS }] }, 1)
  })
})
