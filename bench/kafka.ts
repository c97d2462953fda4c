import { randomUUID } from 'node:crypto'
import { startKafka } from '../test/fixtures/kafka.ts'
import { run } from './library.ts'
import { libraryPickUp } from './pick-up.ts'
import { quantile, type Row, ratioRow } from './report.ts'

const MEASURES = ['batch submit of 1000', '100 concurrent submits', 'processing, concurrency 100']

/**
 * The Kafka engine beside the Redis engine on the same Redis, and beside a bare produce and consume loop on the same
 * broker. Each on topics and keys of its own, so that nothing has to be emptied in between.
 */
export async function kafkaBesideOthers(redisPort: number, rounds: number, seconds: number): Promise<Row[]> {
  const kafka = await startKafka({ more: ['num.io.threads=8', 'broker.session.timeout.ms=18000'] })
  const urlOf = (more = '') => {
    const prefix = `b${randomUUID().slice(0, 8)}`
    return `kafka://${kafka.address}?prefix=${prefix}${more}&state=redis://127.0.0.1:${redisPort}?prefix=${prefix}`
  }
  const rows: Row[] = []
  try {
    for (const measure of MEASURES) {
      const [ours, quiet, redis, bare]: [number[], number[], number[], number[]] = [[], [], [], []]
      for (let round = 0; round < rounds; round++) {
        ours.push(run('xqueue-kafka', urlOf(), measure))
        quiet.push(run('xqueue-kafka', urlOf('&events=off'), measure))
        redis.push(run('xqueue-redis', `${redisPort}?prefix=b${randomUUID().slice(0, 8)}`, measure))
        // A hundred at once would be a hundred requests there: it has no group commit of its own.
        bare.push(run('bare-kafka', `${kafka.address} bare-${randomUUID().slice(0, 8)}`, measure))
      }
      rows.push(ratioRow(`Kafka: ${measure}`, 'tasks/s', ours, 'Redis engine', redis))
      rows.push(ratioRow(`Kafka: ${measure}`, 'tasks/s', ours, 'bare loop', bare))
      rows.push(ratioRow(`Kafka: ${measure}, events=off`, 'tasks/s', quiet, 'with events', ours))
    }
    const [ours, redis] = [
      await libraryPickUp(urlOf(), seconds),
      await libraryPickUp(`redis://127.0.0.1:${redisPort}?prefix=pick`, seconds),
    ]
    for (const share of [0.5, 0.99]) {
      const at = (delays: number[]) => [quantile(delays, share)]
      rows.push(ratioRow(`Kafka: pick-up at 100 tasks/s, p${share * 100}`, 'ms', at(ours), 'Redis engine', at(redis)))
    }
  } finally {
    await kafka.stop()
  }
  return rows
}
