import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { startKafka } from '../test/fixtures/kafka.ts'
import { runWithCpu } from './library.ts'
import { type Row, ratioRow } from './report.ts'

/** What is measured, and how many tasks it submits. */
const MEASURES = [
  ['batch submit of 1000', 51_000],
  ['processing, concurrency 10', 20_000],
  ['processing, concurrency 100', 50_000],
] as const

/** Kinds of tasks: what they are, and the variant of a contender that has them. */
type Variants = readonly (readonly [what: string, variant: string])[]
const GROUPS: Variants = [['each task in its own group', 'groups']]
const LIMITS: Variants = [
  ['1 named limit per task', 'limits-1'],
  ['3 named limits per task', 'limits-3'],
  ['8 named limits per task', 'limits-8'],
  ['beside 10,000 tasks that a limit keeps waiting, each of another key', 'saturated'],
]

/** Tasks that are each in a group of their own, beside tasks without groups. */
export function groups(redisPort: number, rounds: number, only: readonly string[] = []): Promise<Row[]> {
  return beside(redisPort, rounds, only, GROUPS)
}

/** Tasks that use named limits, beside tasks that use none. */
export function limits(redisPort: number, rounds: number, only: readonly string[] = []): Promise<Row[]> {
  return beside(redisPort, rounds, only, LIMITS)
}

/**
 * Kinds of tasks beside plain ones, on each store: the rate, and the CPU time of the process and of Redis for each task.
 * On a machine that others use, the CPU time is the figure to compare.
 */
async function beside(redisPort: number, rounds: number, only: readonly string[], variants: Variants): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-groups-'))
  const isAsked = (store: string) => only.length === 0 || only.includes(store)
  const kafka = isAsked('Kafka')
    ? await startKafka({ more: ['num.io.threads=8', 'broker.session.timeout.ms=18000'] })
    : null
  const redis = new Redis(redisPort)
  const prefix = () => `b${randomUUID().slice(0, 8)}`
  const stores: [name: string, contender: string, place: () => string][] = [
    ['SQLite', 'xqueue', () => join(folder, `${randomUUID()}.db`)],
    ['Redis', 'xqueue-redis', () => `${redisPort}?prefix=${prefix()}`],
    [
      'Kafka',
      'xqueue-kafka',
      () => {
        const own = prefix()
        return `kafka://${kafka!.address}?prefix=${own}&state=redis://127.0.0.1:${redisPort}?prefix=${own}`
      },
    ],
  ]
  const rows: Row[] = []
  try {
    for (const [name, contender, place] of stores.filter(([store]) => isAsked(store))) {
      for (const [measure, tasks] of MEASURES) {
        const plain: Round[] = []
        const special = variants.map((): Round[] => [])
        for (let round = 0; round < rounds; round++) {
          for (const [index, [, variant]] of variants.entries()) {
            special[index]!.push(await measured(redis, contender, `${place()} ${variant}`, measure, tasks))
          }
          plain.push(await measured(redis, contender, place(), measure, tasks))
        }
        for (const [index, [kind]] of variants.entries()) {
          const what = `${name}: ${measure}, ${kind}`
          const row = (label: string, unit: string, figureOf: (round: Round) => number) =>
            ratioRow(label, unit, special[index]!.map(figureOf), 'plain tasks', plain.map(figureOf))
          rows.push(row(what, 'tasks/s', ({ figure }) => figure))
          rows.push(row(`${what}: CPU per task`, 'µs', ({ cpuUs }) => cpuUs))
        }
      }
    }
  } finally {
    redis.disconnect()
    await kafka?.stop()
    rmSync(folder, { recursive: true })
  }
  return rows
}

interface Round {
  figure: number
  cpuUs: number
}

/** A figure, and the CPU time of the process and of Redis for each task. */
async function measured(redis: Redis, contender: string, place: string, measure: string, tasks: number) {
  await redis.flushall()
  const before = await cpuOf(redis)
  const { figure, cpuUs } = runWithCpu(contender, place, measure)
  return { figure, cpuUs: (cpuUs + (await cpuOf(redis)) - before) / tasks }
}

async function cpuOf(redis: Redis): Promise<number> {
  const info = await redis.info('cpu')
  const seconds = (name: string) => Number(new RegExp(`^${name}:(\\S+)`, 'm').exec(info)![1])
  return (seconds('used_cpu_user') + seconds('used_cpu_sys')) * 1e6
}
