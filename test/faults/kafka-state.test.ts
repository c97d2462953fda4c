import { readdirSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import type { TaskEvent } from '../../src/task/event.ts'
import { isFinal } from '../../src/task/status.ts'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { redisCli, startRedis } from '../fixtures/redis.ts'
import { startCluster } from '../fixtures/redis-cluster.ts'
import { startSentinel } from '../fixtures/redis-sentinel.ts'
import { checkOverLoss, eventsOnTopic } from './kafka-history.ts'
import { LIMITS, Load, WAIT_MS } from './load.ts'

let kafka: RunningKafka
let state: { url: string; stop(): Promise<void> }
let load: Load
let prefix: string
let url: string
beforeAll(async () => {
  kafka = await startKafka()
})
let loads = 0
const begin = async <State extends typeof state>(starting: Promise<State>): Promise<State> => {
  const started = await starting
  state = started
  prefix = `load${++loads}`
  url = `kafka://${kafka.address}?prefix=${prefix}&wait_ms=${2 * WAIT_MS}&state=${state.url}?wait_ms=${WAIT_MS}`
  // In a cluster, types that share a limit would have to lie in one partition.
  load = await Load.start(url, state.url.includes('cluster') ? { named: {} } : {})
  return started
}
afterEach(async () => {
  await load?.stop()
  await state?.stop()
})

const acceptedIds = () => load.lines().flatMap((line) => (line.what === 'accepted' ? [line.id] : []))

/** The events on the topic, when they tell of every accepted task that it has ended; or when that takes too long. */
async function eventsOfAll(): Promise<TaskEvent[]> {
  await load.end('submit')
  const accepted = acceptedIds()
  let events: TaskEvent[] = []
  let open = Number.POSITIVE_INFINITY
  const moreHaveEnded = async () => {
    const before = open
    events = await eventsOnTopic(kafka.address, `${prefix}.events`)
    const ended = new Set(events.flatMap(({ taskId, status }) => (isFinal(status) ? [taskId] : [])))
    open = accepted.filter((id) => !ended.has(id)).length
    return open < before
  }
  // The last changes may not be published yet.
  const queue = await openQueue(url)
  try {
    while (open > 0) await load.until(moreHaveEnded, 'more of what was accepted has ended')
  } catch {
    // The rest is lost, which the caller reports.
  } finally {
    await queue.close()
  }
  return events
}

/** The whole history, before and after the loss, from the topics of Kafka. */
async function expectNothingLost(scenario: string, lostAt: number): Promise<void> {
  const events = await eventsOfAll()
  const { lines, limits, counts } = await load.finish()
  const violations = checkOverLoss({ events, lines, limits }, lostAt)
  console.info(`${scenario}: ${JSON.stringify({ ...counts, violations: violations.length })}`)
  expect(violations.slice(0, 10)).toEqual([])
  expect(counts.finished).toBeGreaterThan(100)
}

/** Ends in the lost moments are known from the topic only. */
async function expectAllEnd(): Promise<void> {
  const ended = new Set((await eventsOfAll()).flatMap(({ taskId, status }) => (isFinal(status) ? [taskId] : [])))
  const accepted = acceptedIds()
  expect(accepted.length).toBeGreaterThan(300)
  expect(accepted.filter((id) => !ended.has(id))).toEqual([])
}

describe('the state of Kafka loses everything under load', () => {
  it('is restored from the topics after FLUSHALL: unfinished tasks run, finished ones do not run again', async () => {
    const redis = await begin(startRedis())
    await load.progress()
    const flush = "redis.call('FLUSHALL') return redis.call('TIME')"
    const [seconds, micros] = redisCli(redis.port, 'EVAL', flush, '0').split('\n').map(Number)
    const lostAt = seconds! * 1_000 + Math.floor(micros! / 1_000) + 1
    await load.progress()
    await expectNothingLost('FLUSHALL', lostAt)
  })

  it('is restored when Redis returns empty, with types, limits and pauses', async () => {
    const redis = await begin(startRedis())
    const queue = await openQueue(url)
    await queue.configureType('mail', { maxConcurrency: 4 })
    await queue.configureType('quiet', { declared: true, paused: true, rate: { max: 5, perMs: 1_000 } })
    await queue.close()
    await load.progress()
    await redis.kill()
    const lostAt = Date.now()
    await redis.start()
    await load.progress()
    const again = await openQueue(url)
    const types = new Map((await again.types()).map((info) => [info.type, info]))
    await again.close()
    expect(types.get('mail')).toMatchObject({ maxConcurrency: 4 })
    expect(types.get('image')).toMatchObject({ maxConcurrency: LIMITS.image })
    expect(types.get('quiet')).toMatchObject({ declared: true, paused: true, rate: { max: 5, perMs: 1_000 } })
    await expectNothingLost('came back empty', lostAt)
  })
})

describe('the state of Kafka loses recent writes under load', () => {
  it('restores the tasks that were accepted in that time', async () => {
    const redis = await begin(startRedis('--appendonly', 'yes', '--appendfsync', 'everysec'))
    await load.progress()
    const folder = join(redis.folder, 'appendonlydir')
    const file = join(folder, readdirSync(folder).find((name) => name.endsWith('.incr.aof'))!)
    const size = statSync(file).size
    await load.progress()
    await redis.kill()
    truncateSync(file, size)
    await redis.start()
    await load.progress()
    await expectAllEnd()
  })
})

describe('the state of Kafka fails over by Sentinel under load', () => {
  it('restores tasks that the old master had accepted and not replicated', async () => {
    const { master } = await begin(startSentinel())
    await load.progress()
    await master.kill()
    await load.progress()
    await expectAllEnd()
  })
})

describe('the state of Kafka is a cluster under load', () => {
  it('is restored when one of its nodes returns empty', async () => {
    const { nodes, serves } = await begin(startCluster())
    await load.progress()
    for (const node of nodes) {
      await node.kill()
      await node.start()
      await serves()
      await load.progress()
    }
    const queue = await openQueue(url)
    const limits = (await queue.types()).map(({ type, maxConcurrency }) => [type, maxConcurrency])
    await queue.close()
    expect(Object.fromEntries(limits)).toEqual(LIMITS)
    await expectAllEnd()
  })
})
