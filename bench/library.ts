import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Redis } from 'ioredis'
import { MEASURE_NAMES } from './measure.ts'
import { type Row, ratioRow } from './report.ts'

const WAITING = 50_000

/** Each measure of both, one after the other, `rounds` times, each in a process of its own on an empty store. */
export async function library(redisPort: number, rounds: number): Promise<Row[]> {
  const rows: Row[] = []
  const redis = new Redis(redisPort)
  for (const measure of MEASURE_NAMES) {
    const ours: number[] = []
    const theirs: number[] = []
    for (let round = 0; round < rounds; round++) {
      const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-'))
      ours.push(run('xqueue', join(folder, 'x.db'), measure))
      rmSync(folder, { recursive: true })
      await redis.flushall()
      theirs.push(run('bullmq', String(redisPort), measure))
    }
    rows.push(ratioRow(measure, 'tasks/s', ours, 'BullMQ', theirs))
  }
  rows.push(await bytesPerWaitingTask(redis, redisPort))
  redis.disconnect()
  return rows
}

/** One figure, taken in a process of its own. */
export function run(contender: string, where: string, measure: string): number {
  return runWithCpu(contender, where, measure).figure
}

/** The same, with the CPU time of that process (µs), its start and the submission included. */
export function runWithCpu(contender: string, where: string, measure: string): { figure: number; cpuUs: number } {
  const args = [join(import.meta.dirname, 'measure.ts'), contender, where, measure]
  const output = execFileSync(process.execPath, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  return JSON.parse(output.trim().split('\n').at(-1)!) as { figure: number; cpuUs: number }
}

async function bytesPerWaitingTask(redis: Redis, redisPort: number): Promise<Row> {
  const fill = `fill ${WAITING}`
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-'))
  const file = join(folder, 'x.db')
  run('xqueue', file, fill)
  const db = new DatabaseSync(file)
  db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  db.close()
  const ours = statSync(file).size / WAITING
  rmSync(folder, { recursive: true })
  await redis.flushall()
  const before = await memory(redis)
  run('bullmq', String(redisPort), fill)
  const theirs = ((await memory(redis)) - before) / WAITING
  return ratioRow('size of a waiting task (disk; BullMQ memory)', 'bytes', [ours], 'BullMQ', [theirs])
}

async function memory(redis: Redis): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await redis.info('memory'))![1])
}

/** Rates with a store that already holds very much, beside the same with little. */
export async function backlog(rounds: number, sizes: readonly number[]): Promise<Row[]> {
  const rows: Row[] = []
  for (const kind of ['waiting', 'delayed', 'finished']) {
    const stores = sizes.map((size) => {
      const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-'))
      run('xqueue', join(folder, 'x.db'), `fill ${size} ${kind}`)
      return { size, folder, submit: [] as number[], process: [] as number[] }
    })
    for (let round = 0; round < rounds; round++) {
      for (const { folder, submit, process } of stores) {
        submit.push(run('xqueue', join(folder, 'x.db'), 'submit on top'))
        process.push(run('xqueue', join(folder, 'x.db'), 'process on top'))
      }
    }
    const [least, ...others] = stores
    for (const { size, submit, process } of others) {
      const beside = `${least!.size.toLocaleString('en')} ${kind}`
      rows.push(
        ratioRow(`batch submit, ${size.toLocaleString('en')} ${kind}`, 'tasks/s', submit, beside, least!.submit),
      )
      rows.push(
        ratioRow(`processing, ${size.toLocaleString('en')} ${kind}`, 'tasks/s', process, beside, least!.process),
      )
    }
    for (const { folder } of stores) rmSync(folder, { recursive: true })
  }
  return rows
}
