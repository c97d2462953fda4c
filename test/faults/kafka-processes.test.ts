import { afterEach, beforeAll, beforeEach, describe, it } from 'vitest'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'
import { expectKept, Load, repeatedly, WAIT_MS } from './load.ts'

let kafka: RunningKafka
let redis: RunningRedis
let load: Load
beforeAll(async () => {
  ;[kafka, redis] = await Promise.all([startKafka(), startRedis()])
})
let loads = 0
beforeEach(async () => {
  const prefix = `load${++loads}`
  const state = `${redis.url}?prefix=${prefix}&wait_ms=${WAIT_MS}`
  load = await Load.start(`kafka://${kafka.address}?prefix=${prefix}&wait_ms=${2 * WAIT_MS}&state=${state}`)
})
afterEach(async () => {
  await load?.stop()
})

describe('processes of a group on Kafka are killed under load', () => {
  it('takes over the partitions, the leases and the outbox of a worker that is killed', async () => {
    const faults = await repeatedly(async () => {
      await load.progress()
      await load.kill(load.members.findLast(({ role }) => role === 'work')!)
      await load.progress()
      await load.add('work')
      await load.progress()
    })
    expectKept('worker killed', await load.finish(), faults)
  })

  it('keeps the tasks that were acknowledged to a killed submitter', async () => {
    const faults = await repeatedly(async () => {
      await load.progress()
      await load.kill(load.members.findLast(({ role }) => role === 'submit')!)
      await load.add('submit')
      await load.progress()
    })
    expectKept('submitter killed', await load.finish(), faults)
  })

  it('rebalances the partitions when processes join, and loses nothing', async () => {
    const faults = await repeatedly(async () => {
      await load.progress()
      await load.add('work')
      await load.progress(50)
      await load.add('submit')
      await load.progress()
    })
    expectKept('rebalanced', await load.finish(), faults)
  })
})
