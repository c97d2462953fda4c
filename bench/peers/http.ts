import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import autocannon from 'autocannon'
import { PAYLOAD } from '../contenders/contender.ts'
import { cpuMicrosOf } from '../processes.ts'
import { type Redis, type Running, startBare, startRedis, startXQueue } from '../servers.ts'
import type { Figure } from './run.ts'
import type { Results, Settings } from './suites.ts'
import type { Cell } from './words.ts'

const BATCH = 100
const TASK = { type: 'bench', payload: PAYLOAD }
const SINGLE = { path: '/api/v1/tasks', body: TASK, tasks: 1 }
const BATCHES = {
  path: '/api/v1/tasks/batch',
  body: { tasks: Array.from({ length: BATCH }, () => TASK) },
  tasks: BATCH,
}

/** Submissions over HTTP: connections at once, and tasks of a call. */
export const CALLS: readonly { id: string; name: Cell; connections: number; call: typeof SINGLE | typeof BATCHES }[] = [
  {
    id: 'single-50',
    name: { en: 'single tasks, 50 connections', zh: '单个任务，50 个连接' },
    connections: 50,
    call: SINGLE,
  },
  {
    id: 'single-1',
    name: { en: 'single tasks, 1 connection', zh: '单个任务，1 个连接' },
    connections: 1,
    call: SINGLE,
  },
  {
    id: 'batch-50',
    name: { en: 'batches of 100, 50 connections', zh: '每批 100 个，50 个连接' },
    connections: 50,
    call: BATCHES,
  },
]
export const SERVERS: readonly { id: string; name: Cell }[] = [
  { id: 'sqlite', name: { en: 'XQueue, SQLite', zh: 'XQueue，SQLite' } },
  { id: 'redis', name: { en: 'XQueue, Redis', zh: 'XQueue，Redis' } },
  { id: 'bare', name: { en: 'bare Fastify, same schemas', zh: '纯 Fastify，相同的 schema' } },
]

/** Submissions beside a Fastify that only validates the same bodies. CPU is that of the server and of Redis. */
export async function http({ rounds, seconds, tasks, isSmoke }: Settings): Promise<Results> {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-http-'))
  const redis: Redis = await startRedis(folder)
  const servers: { [id: string]: Running } = {
    sqlite: await startXQueue(`sqlite:${join(folder, 'x.db')}`, '--no-worker'),
    redis: await startXQueue(`redis://127.0.0.1:${redis.port}`, '--no-worker'),
    bare: await startBare(),
  }
  const results: Results = { settings: { rounds, tasks }, figures: {}, latencies: {}, missing: {}, versions: {} }
  // The first round warms up.
  for (let round = isSmoke ? 0 : -1; round < rounds; round++) {
    for (const { id: measure, call, connections } of CALLS) {
      for (const [id, server] of Object.entries(servers)) {
        const pids = id === 'redis' ? [server.pid, redis.pid] : [server.pid]
        const figure = await shoot(server.url, pids, call, connections, round < 0 ? 1 : seconds)
        if (round < 0) continue
        console.error(`round ${round + 1}, ${measure}, ${id}: ${Math.round(figure.perSecond)} tasks/s`)
        const earlier = results.figures[id] ?? {}
        results.figures[id] = { ...earlier, [measure]: [...(earlier[measure] ?? []), figure] }
      }
    }
  }
  for (const server of Object.values(servers)) await server.stop()
  await redis.stop()
  rmSync(folder, { recursive: true })
  return results
}

async function shoot(
  url: string,
  pids: readonly number[],
  { path, body, tasks }: typeof SINGLE | typeof BATCHES,
  connections: number,
  seconds: number,
): Promise<Figure> {
  const before = cpuMicrosOf(pids)
  const { requests, non2xx, errors, duration } = await autocannon({
    url: url + path,
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
    connections,
    duration: seconds,
  })
  if (non2xx + errors > 0) throw new Error(`${url}: ${non2xx} answers were no 2xx, ${errors} calls failed`)
  const count = requests.total * tasks
  const cpuUs = (cpuMicrosOf(pids) - before) / count
  return { perSecond: count / duration, cpuUs, lost: 0, twice: 0, held: 0, delays: [] }
}
