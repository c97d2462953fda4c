import { Admin } from '@platformatic/kafka'
import { afterAll, beforeAll } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { queueContract } from './contract.ts'
import { TopicSets } from './kafka-topics.ts'

let kafka: RunningKafka
let redis: RunningRedis
let admin: Admin
let topics: TopicSets
beforeAll(async () => {
  ;[kafka, redis] = await Promise.all([startKafka(), startRedis()])
  admin = new Admin({ clientId: 'contract', bootstrapBrokers: kafka.address.split(',') })
  topics = new TopicSets(admin)
})
afterAll(async () => {
  await admin.close()
})

/** They decide by the same state as the Redis store. */
const RANDOM_RUNS = 10

queueContract(
  'Kafka',
  async (options) => {
    const prefix = topics.take()
    const url = `kafka://${kafka.address}?prefix=${prefix}&partitions=2&state=${redis.url}?prefix=${prefix}`
    const queue = await openQueue(url, options)
    const cleanup = async () => {
      await queue.close()
      redisCli(redis.port, 'FLUSHALL')
      await topics.giveBack(prefix)
    }
    return { queue, second: () => openQueue(url, options), cleanup }
  },
  { randomRuns: RANDOM_RUNS },
)
