import { beforeAll } from 'vitest'
import { readNamed } from '../../src/queue/event-reader.ts'
import { openStore } from '../../src/store/open.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'
import { type RunningCluster, startCluster } from '../fixtures/redis-cluster.ts'
import { storeContract } from './store-contract.ts'

let redis: RunningRedis
let cluster: RunningCluster
beforeAll(async () => {
  ;[redis, cluster] = await Promise.all([startRedis(), startCluster()])
})

let stores = 0

for (const [name, urlOf] of [
  ['Redis', () => redis.url],
  ['Redis Cluster', () => cluster.url],
] as const) {
  storeContract(name, async (options) => {
    // Each in keys of its own.
    const url = `${urlOf()}?prefix=test${++stores}`
    const open = () => openStore(url, options, readNamed)
    return { store: await open(), second: open }
  })
}
