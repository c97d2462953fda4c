import { setTimeout as sleep } from 'node:timers/promises'
import { type Admin, findErrorBy } from '@platformatic/kafka'
import { XQueueError } from '../../../task/errors.ts'
import type { KafkaUrl } from './kafka-url.ts'
import type { TopicPlan } from './topics.ts'

const PAUSE_MS = 20
const FEW_BROKERS_PAUSE_MS = 250
/** With this many copies, two must have a record before it counts. */
const REPLICAS_FOR_TWO = 3

/** Creates the missing topics, and waits until each partition has a leader. */
export async function createTopics(admin: Admin, url: KafkaUrl, plans: readonly TopicPlan[]): Promise<void> {
  const there = new Set(await admin.listTopics())
  const missing = plans.filter(({ name }) => !there.has(name))
  if (missing.length === 0) return
  const replicas = url.replication ?? -1
  const minimum = (url.replication ?? 1) >= REPLICAS_FOR_TWO ? { 'min.insync.replicas': '2' } : {}
  // One request creates topics with the same settings.
  for (const alike of Map.groupBy(missing, ({ configs }) => JSON.stringify(configs)).values()) {
    const configs = Object.entries({ ...alike[0]!.configs, ...minimum }).map(([name, value]) => ({ name, value }))
    const topics = alike.map(({ name, partitions }) => ({ topic: name, partitions, replicas }))
    await insist(() => admin.createTopics({ topics, configs }), url.waitMs)
  }
  await haveLeaders(
    admin,
    missing.map(({ name }) => name),
    url.waitMs,
  )
}

/**
 * A broker that has just started, or was too busy for its heartbeat, does not count as a replica yet, so this retries.
 */
async function insist(create: () => Promise<unknown>, waitMs: number): Promise<void> {
  const until = performance.now() + waitMs
  for (;;) {
    try {
      await create()
      return
    } catch (error) {
      const is = (id: string) => findErrorBy(error as Error, 'apiId', id) !== null
      // Another process was faster.
      if (is('TOPIC_ALREADY_EXISTS')) return
      if (!is('INVALID_REPLICATION_FACTOR') || performance.now() > until) throw error
      await sleep(FEW_BROKERS_PAUSE_MS)
    }
  }
}

async function haveLeaders(admin: Admin, topics: string[], waitMs: number): Promise<void> {
  const until = performance.now() + waitMs
  for (;;) {
    const led = await admin.metadata({ topics, forceUpdate: true }).then(
      ({ topics: known }) => topics.every((name) => known.get(name)?.partitions.every(({ leader }) => leader >= 0)),
      () => false, // Not every broker knows the topic yet.
    )
    if (led) return
    if (performance.now() > until) {
      throw new XQueueError(
        'engine_unavailable',
        `Kafka created the topics ${topics.join(', ')}, but they have no leader`,
      )
    }
    await sleep(PAUSE_MS)
  }
}
