import { Admin } from '@platformatic/kafka'
import { afterAll, beforeAll, vi } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { queueContract } from './contract.ts'

let kafka: RunningKafka
let redis: RunningRedis
let admin: Admin
beforeAll(async () => {
  ;[kafka, redis] = await Promise.all([startKafka(), startRedis()])
  admin = new Admin({ clientId: 'contract', bootstrapBrokers: kafka.address.split(',') })
})
afterAll(async () => {
  await admin.close()
})

let stores = 0
/** Each makes topics of its own, and decides by the same state as the Redis engine. */
const RANDOM_RUNS = 20
// Topics are made and removed for each of them, by brokers that share the machine with all other tests.
vi.setConfig({ testTimeout: 180_000 })

queueContract(
  'Kafka',
  async (options) => {
    // Each in keys and topics of its own.
    const name = `test${++stores}`
    const url = `kafka://${kafka.address}?prefix=${name}&partitions=2&state=${redis.url}?prefix=${name}`
    const queue = await openQueue(url, options)
    const cleanup = async () => {
      await queue.close()
      redisCli(redis.port, 'FLUSHALL')
      const topics = await admin.listTopics()
      await admin.deleteTopics({ topics: topics.filter((topic) => topic.startsWith(`${name}.`)) })
    }
    return { queue, second: () => openQueue(url, options), cleanup }
  },
  RANDOM_RUNS,
)
