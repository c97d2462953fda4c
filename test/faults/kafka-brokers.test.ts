import { afterEach, describe, it } from 'vitest'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'
import { expectKept, Load, repeatedly, WAIT_MS } from './load.ts'

let kafka: RunningKafka
let redis: RunningRedis
let load: Load
afterEach(async () => {
  await load?.stop()
})

const begin = async (brokers: number) => {
  ;[kafka, redis] = await Promise.all([startKafka({ brokers }), startRedis()])
  load = await Load.start(
    `kafka://${kafka.address}?wait_ms=${2 * WAIT_MS}&replication=${brokers}&state=${redis.url}?wait_ms=${WAIT_MS}`,
  )
}

describe('brokers of Kafka are killed under load', () => {
  it('continues when the only broker is killed and starts again', async () => {
    await begin(1)
    const faults = await repeatedly(async () => {
      await load.progress()
      await kafka.kill()
      await kafka.start()
      await load.progress()
    })
    expectKept('broker killed', await load.finish(), faults)
  })

  it('continues with two of three brokers when one is killed', async () => {
    await begin(3)
    const faults = await repeatedly(async () => {
      await load.progress()
      await kafka.brokers[0]!.kill()
      await load.progress()
      await kafka.brokers[0]!.start()
      await load.progress()
    })
    expectKept('one of three brokers killed', await load.finish(), faults)
  })
})
