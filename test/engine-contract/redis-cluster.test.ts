import { afterAll, beforeAll } from 'vitest'
import { openEngine } from '../../src/engine/open.ts'
import { redisCli } from '../services/redis.ts'
import { type RunningCluster, startCluster } from '../services/redis-cluster.ts'
import { engineContract } from './contract.ts'

const RANDOM_RUNS = 15

let cluster: RunningCluster
beforeAll(async () => {
  cluster = await startCluster()
})
afterAll(() => cluster?.stop())

let stores = 0

engineContract(
  'Redis Cluster',
  async (options) => {
    const url = `${cluster.url}?prefix=test${++stores}`
    const engine = await openEngine(url, options)
    const cleanup = async () => {
      await engine.close()
      for (const { port } of cluster.nodes) redisCli(port, 'FLUSHALL')
    }
    return { engine, second: () => openEngine(url, options), cleanup }
  },
  RANDOM_RUNS,
)
