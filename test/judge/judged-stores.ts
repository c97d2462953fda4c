import { join } from 'node:path'
import { startKafka } from '../fixtures/kafka.ts'
import type { Newer } from '../fixtures/newer-redis.ts'
import { startRedis } from '../fixtures/redis.ts'
import { startCluster } from '../fixtures/redis-cluster.ts'
import type { Units } from './record.ts'

export const STORES = ['sqlite', 'redis', 'redis-8', 'valkey-8', 'redis-cluster', 'kafka'] as const
export type StoreName = (typeof STORES)[number]

export interface JudgedStore {
  url: string
  units: Units
  /** Ends a server of the store as a crash does, and starts it again. */
  crashes: (() => Promise<void>)[]
  stop: () => Promise<void>
}

const SHARED: Units = { 'pool-one': 1, 'pool-two': 2 }
/** In a cluster, types whose partitions differ cannot share a limit. */
const OF_ONE: Units = { 'pool-one': 1 }
/** Nothing that was acknowledged may be lost in a crash. */
const DURABLE = ['--appendonly', 'yes', '--appendfsync', 'always']

export async function startStore(name: StoreName, folder: string): Promise<JudgedStore> {
  if (name === 'sqlite')
    return { url: `sqlite:${join(folder, 'xqueue.db')}`, units: SHARED, crashes: [], stop: async () => {} }
  if (name === 'redis-cluster') {
    const { url, nodes, stop } = await startCluster({ flags: DURABLE })
    return { url, units: OF_ONE, crashes: nodes.map(crashOf), stop }
  }
  if (name === 'kafka') {
    const [kafka, redis] = await Promise.all([startKafka(), startRedis(...DURABLE)])
    const stop = async () => {
      await Promise.all([kafka.stop(), redis.stop()])
    }
    const url = `kafka://${kafka.address}?state=${redis.url}`
    return { url, units: SHARED, crashes: [crashOf(kafka), crashOf(redis)], stop }
  }
  if (name !== 'redis') process.env.TEST_REDIS = name satisfies Newer
  const redis = await startRedis(...DURABLE)
  return { url: redis.url, units: SHARED, crashes: [crashOf(redis)], stop: redis.stop }
}

function crashOf(server: { kill(): Promise<void>; start(): Promise<void> }): () => Promise<void> {
  return async () => {
    await server.kill()
    await server.start()
  }
}
