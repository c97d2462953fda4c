import { afterAll, beforeAll } from 'vitest'
import { openEngine } from '../../src/engine/open.ts'
import { makeDocumentedUser } from '../services/acl.ts'
import { redisCli } from '../services/redis.ts'
import { type RunningCluster, startCluster } from '../services/redis-cluster.ts'
import { engineContract } from './contract.ts'

const RANDOM_RUNS = 15
const PASSWORD = 'secret'

let cluster: RunningCluster
beforeAll(async () => {
  cluster = await startCluster()
  for (const { port } of cluster.nodes) makeDocumentedUser(port, 'test*', PASSWORD)
})
afterAll(() => cluster?.stop())

let stores = 0

engineContract(
  'Redis Cluster, as the user of the documentation',
  async (options) => {
    const url = `${cluster.url.replace('//', `//xqueue:${PASSWORD}@`)}?prefix=test${++stores}`
    const engine = await openEngine(url, options)
    const cleanup = async () => {
      await engine.close()
      for (const { port } of cluster.nodes) redisCli(port, 'FLUSHALL')
    }
    return { engine, second: () => openEngine(url, options), cleanup }
  },
  RANDOM_RUNS,
)
