import { randomUUID } from 'node:crypto'
import { Admin, Consumer, Producer } from '@platformatic/kafka'
import type { OpenContender } from './contender.ts'

/**
 * What the same client does with nothing around it: produces with acks=all and idempotence, and consumes in a group,
 * committing by time. `<brokers> <topic>`; one topic with three partitions, no acknowledgement of a single task.
 */
export const open: OpenContender = async (where) => {
  const [address = '', topic = ''] = where.split(' ')
  const options = { clientId: 'bare', bootstrapBrokers: address.split(',') }
  const admin = new Admin(options)
  await admin.createTopics({ topics: [topic], partitions: 3, replicas: 1 })
  await admin.close()
  const producer = new Producer({ ...options, idempotent: true, acks: -1 })
  return {
    submit: async (payloads) => {
      const messages = payloads.map((payload) => {
        return { topic, key: Buffer.from(randomUUID()), value: Buffer.from(JSON.stringify(payload)) }
      })
      await producer.send({ messages, idempotent: true, acks: -1 })
    },
    work: async (_concurrency, handle) => {
      const consumer = new Consumer({ ...options, groupId: `bare-${randomUUID()}` })
      const stream = await consumer.consume({ topics: [topic], mode: 'earliest', autocommit: 500, maxWaitTime: 100 })
      const consuming = (async () => {
        for await (const record of stream) await handle(JSON.parse(record.value!.toString()))
      })().catch(() => undefined)
      return async () => {
        await consumer.close(true)
        await consuming
      }
    },
    close: () => producer.close(),
  }
}
