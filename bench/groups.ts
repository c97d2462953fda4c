import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startKafka } from '../test/services/kafka.ts'
import { run } from './library.ts'
import { type Row, ratioRow } from './report.ts'

const MEASURES = ['batch submit of 1000', 'processing, concurrency 10', 'processing, concurrency 100']

/** Tasks that are each in a group of their own, beside tasks without groups, on each store. */
export async function groups(redisPort: number, rounds: number): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-groups-'))
  const kafka = await startKafka({ more: ['num.io.threads=8', 'broker.session.timeout.ms=18000'] })
  const prefix = () => `b${randomUUID().slice(0, 8)}`
  const stores: [name: string, contender: string, place: () => string][] = [
    ['SQLite', 'xqueue', () => join(folder, `${randomUUID()}.db`)],
    ['Redis', 'xqueue-redis', () => `${redisPort}?prefix=${prefix()}`],
    [
      'Kafka',
      'xqueue-kafka',
      () => {
        const own = prefix()
        return `kafka://${kafka.address}?prefix=${own}&state=redis://127.0.0.1:${redisPort}?prefix=${own}`
      },
    ],
  ]
  const rows: Row[] = []
  try {
    for (const [name, contender, place] of stores) {
      for (const measure of MEASURES) {
        const [grouped, plain]: [number[], number[]] = [[], []]
        for (let round = 0; round < rounds; round++) {
          grouped.push(run(contender, `${place()} groups`, measure))
          plain.push(run(contender, place(), measure))
        }
        rows.push(ratioRow(`${name}: ${measure}, each task in its own group`, 'tasks/s', grouped, 'no groups', plain))
      }
    }
  } finally {
    await kafka.stop()
    rmSync(folder, { recursive: true })
  }
  return rows
}
