import { beforeAll } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { makeDocumentedUser } from '../fixtures/acl.ts'
import { redisCli } from '../fixtures/redis.ts'
import { type RunningCluster, startCluster } from '../fixtures/redis-cluster.ts'
import { queueContract } from './contract.ts'
import type { Open } from './fixture.ts'
import { Prefixes } from './prefixes.ts'

const RANDOM_RUNS = 15
const PASSWORD = 'secret'

let cluster: RunningCluster
beforeAll(async () => {
  cluster = await startCluster()
  for (const { port } of cluster.nodes) makeDocumentedUser(port, 'test*', PASSWORD)
})

const prefixes = new Prefixes()

const openWith =
  (more: string): Open =>
  async (options) => {
    const prefix = prefixes.take()
    const url = `${cluster.url.replace('//', `//xqueue:${PASSWORD}@`)}?prefix=${prefix}${more}`
    const queue = await openQueue(url, options)
    const cleanup = async () => {
      await queue.close()
      for (const { port } of cluster.nodes) redisCli(port, 'FLUSHALL')
      prefixes.giveBack(prefix)
    }
    return { queue, second: () => openQueue(url, options), cleanup }
  }

queueContract(
  'Redis Cluster, as the user of the documentation',
  openWith(''),
  // Types of different partitions cannot share a limit.
  { randomRuns: RANDOM_RUNS, openForLimits: openWith('&partitions=1') },
)
