import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { run } from './library.ts'
import { FAILING_NAMES, MEASURE_NAMES } from './measure.ts'
import { type Row, ratioRow } from './report.ts'
import { startRedis } from './servers.ts'

const OURS = 'xqueue-redis'
const PEERS = [
  ['bullmq', 'BullMQ'],
  ['bee-queue', 'bee-queue'],
] as const
const WAITING = 50_000
const HALF = 50_000

/** The Redis engine beside its peers, all on the same Redis without persistence, one process each. */
export async function redisBesidePeers(port: number, rounds: number): Promise<Row[]> {
  const redis = new Redis(port)
  const rows: Row[] = []
  for (const measure of [...MEASURE_NAMES, ...FAILING_NAMES]) {
    const ours: number[] = []
    const theirs = PEERS.map((): number[] => [])
    for (let round = 0; round < rounds; round++) {
      await redis.flushall()
      ours.push(run(OURS, String(port), measure))
      for (const [index, [peer]] of PEERS.entries()) {
        await redis.flushall()
        theirs[index]!.push(run(peer, String(port), measure))
      }
    }
    for (const [index, [, name]] of PEERS.entries()) {
      rows.push(ratioRow(`Redis: ${measure}`, 'tasks/s', ours, name, theirs[index]!))
    }
  }
  rows.push(...(await costs(redis, port, rounds)))
  redis.disconnect()
  return rows
}

/** What Redis itself spends: its CPU for a task that is submitted and processed, and its memory for one that waits. */
async function costs(redis: Redis, port: number, rounds: number): Promise<Row[]> {
  const cpu: number[][] = [OURS, 'bullmq', 'bee-queue'].map(() => [])
  const bytes: number[][] = [OURS, 'bullmq', 'bee-queue'].map(() => [])
  for (let round = 0; round < rounds; round++) {
    for (const [index, contender] of [OURS, 'bullmq', 'bee-queue'].entries()) {
      await redis.flushall()
      const memory = await figure(redis, 'memory', 'used_memory')
      run(contender, String(port), `fill ${WAITING}`)
      bytes[index]!.push(((await figure(redis, 'memory', 'used_memory')) - memory) / WAITING)
      await redis.flushall()
      const spent = await cpuSeconds(redis)
      run(contender, String(port), 'processing, concurrency 100')
      cpu[index]!.push((((await cpuSeconds(redis)) - spent) * 1e6) / 50_000)
    }
  }
  return PEERS.flatMap(([, name], index) => [
    ratioRow('Redis: CPU of Redis per task', 'µs', cpu[0]!, name, cpu[index + 1]!),
    ratioRow('Redis: memory of a waiting task', 'bytes', bytes[0]!, name, bytes[index + 1]!),
  ])
}

/** What the limit, a reader of events, the append-only file and a second worker cost or bring. */
export async function redisVariants(port: number, rounds: number): Promise<Row[]> {
  const measure = 'processing, concurrency 100'
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-aof-'))
  const durable = await startRedis(folder, '--appendonly', 'yes', '--appendfsync', 'everysec')
  const [redis, onDisk] = [new Redis(port), new Redis(durable.port)]
  const plain: number[] = []
  const oneByOne = 'processing, concurrency 1'
  const notAhead = { ours: [] as number[], bullmq: [] as number[] }
  const variants = {
    'without a limit': [],
    'with a reader of events': [],
    'with AOF everysec': [],
    'two workers': [],
  } as Record<string, number[]>
  for (let round = 0; round < rounds; round++) {
    await redis.flushall()
    plain.push(run(OURS, String(port), measure))
    await redis.flushall()
    variants['without a limit']!.push(run(OURS, `${port} no-limit`, measure))
    await redis.flushall()
    variants['with a reader of events']!.push(run(OURS, `${port} events`, measure))
    await onDisk.flushall()
    variants['with AOF everysec']!.push(run(OURS, String(durable.port), measure))
    await redis.flushall()
    // More than both take: a worker goes on claiming for a moment when it has had its own.
    run(OURS, String(port), `fill ${3 * HALF}`)
    const both = await Promise.all([processHalf(port), processHalf(port)])
    variants['two workers']!.push(both[0] + both[1])
    await redis.flushall()
    notAhead.ours.push(run(OURS, `${port} not-ahead`, oneByOne))
    await redis.flushall()
    notAhead.bullmq.push(run('bullmq', String(port), oneByOne))
  }
  redis.disconnect()
  onDisk.disconnect()
  await durable.stop()
  rmSync(folder, { recursive: true })
  return [
    ...Object.entries(variants).map(([name, figures]) =>
      ratioRow(`Redis: ${measure}, ${name}`, 'tasks/s', figures, 'one worker, a limit', plain),
    ),
    ratioRow(`Redis: ${oneByOne}, not claiming ahead`, 'tasks/s', notAhead.ours, 'BullMQ', notAhead.bullmq),
  ]
}

/** Rates of a Redis that holds very much already, beside the same with little. */
export async function redisBacklog(rounds: number, sizes: readonly number[]): Promise<Row[]> {
  const rows: Row[] = []
  for (const kind of ['waiting', 'delayed', 'finished']) {
    const least: Record<string, number[]> = {}
    for (const size of sizes) {
      const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-redis-'))
      const { port, stop } = await startRedis(folder)
      const redis = new Redis(port)
      const memory = await figure(redis, 'memory', 'used_memory')
      run(OURS, String(port), `fill ${size} ${kind}`)
      const bytes = ((await figure(redis, 'memory', 'used_memory')) - memory) / size
      const figures = { 'batch submit': [] as number[], processing: [] as number[] }
      for (let round = 0; round < rounds; round++) {
        // What is submitted on top is processed before the next round, so that the size stays.
        figures['batch submit'].push(run(OURS, String(port), 'submit on top'))
        figures.processing.push(run(OURS, String(port), 'process on top'))
      }
      for (const [what, measured] of Object.entries(figures)) {
        least[what] ??= measured
        if (size === sizes[0]) continue
        const measure = `Redis: ${what}, ${size.toLocaleString('en')} ${kind}`
        const beside = `${sizes[0]!.toLocaleString('en')} ${kind}`
        rows.push(ratioRow(measure, 'tasks/s', measured, beside, least[what]))
      }
      if (kind === 'waiting' && size === sizes.at(-1)) {
        rows.push(ratioRow(`Redis: memory of a task, ${size.toLocaleString('en')} waiting`, 'bytes', [bytes], '', []))
      }
      redis.disconnect()
      await stop()
      rmSync(folder, { recursive: true })
    }
  }
  return rows
}

async function processHalf(port: number): Promise<number> {
  const args = [join(import.meta.dirname, 'measure.ts'), OURS, String(port), 'process on top']
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.on('data', (chunk) => {
    text += chunk
  })
  await once(child, 'close')
  return (JSON.parse(text.trim().split('\n').at(-1)!) as { figure: number }).figure
}

async function cpuSeconds(redis: Redis): Promise<number> {
  return (await figure(redis, 'cpu', 'used_cpu_user')) + (await figure(redis, 'cpu', 'used_cpu_sys'))
}

async function figure(redis: Redis, section: string, name: string): Promise<number> {
  return Number(new RegExp(`^${name}:(\\S+)`, 'm').exec(await redis.info(section))![1])
}
