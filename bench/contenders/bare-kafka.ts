import { randomUUID } from 'node:crypto'
import { Admin, Consumer, Producer } from '@platformatic/kafka'
import { type OpenContender, PAYLOAD } from './contender.ts'

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
  const value = Buffer.from(JSON.stringify(PAYLOAD))
  const send = (count: number) => {
    const messages = Array.from({ length: count }, () => ({ topic, key: Buffer.from(randomUUID()), value }))
    return producer.send({ messages, idempotent: true, acks: -1 })
  }
  return {
    submitBatch: async (count) => {
      await send(count)
    },
    submitOne: async () => {
      await send(1)
    },
    work: async (_concurrency, count) => {
      const consumer = new Consumer({ ...options, groupId: `bare-${randomUUID()}` })
      const stream = await consumer.consume({ topics: [topic], mode: 'earliest', autocommit: 500, maxWaitTime: 100 })
      let left = count
      for await (const record of stream) {
        JSON.parse(record.value!.toString())
        left -= 1
        if (left === 0) break
      }
      return () => consumer.close(true)
    },
    close: () => producer.close(),
  }
}
