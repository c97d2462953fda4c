import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import autocannon from 'autocannon'
import { PAYLOAD } from '../contenders/contender.ts'
import { cpuMicrosOf } from '../processes.ts'
import { type Redis, type Running, root, startBare, startRedis, startXQueueOf } from '../servers.ts'
import { BEFORE } from './catalog.ts'
import type { Figure } from './run.ts'
import type { Results, Settings } from './suites.ts'
import type { Cell } from './words.ts'

const BATCH = 100
const JSON_BODY = { 'Content-Type': 'application/json' }
const TASK = { type: 'bench', payload: PAYLOAD }

interface Call {
  path: string
  /** Without one it is a GET. */
  body?: object
  /** What one call counts as. */
  tasks: number
}
const SINGLE: Call = { path: '/api/v1/tasks', body: TASK, tasks: 1 }
const BATCHES: Call = {
  path: '/api/v1/tasks/batch',
  body: { tasks: Array.from({ length: BATCH }, () => TASK) },
  tasks: BATCH,
}
/** The newest of the tasks that were submitted before. */
const PAGE: Call = { path: '/api/v1/tasks?limit=50', tasks: 1 }

/** Calls over HTTP, and how many connections there are at once. */
export const CALLS: readonly { id: string; name: Cell; connections: number; call: Call }[] = [
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
  {
    id: 'page-10',
    name: { en: 'pages of 50 tasks, 10 connections', zh: '每页 50 个任务，10 个连接' },
    connections: 10,
    call: PAGE,
  },
]
export const SERVERS: readonly { id: string; name: Cell }[] = [
  { id: 'sqlite', name: { en: 'XQueue, SQLite', zh: 'XQueue，SQLite' } },
  { id: 'redis', name: { en: 'XQueue, Redis', zh: 'XQueue，Redis' } },
  { id: 'bare', name: { en: 'bare Fastify, same schemas', zh: '纯 Fastify，相同的 schema' } },
]

/** Beside a Fastify that only validates the same bodies, and holds one page. CPU is that of the server and of Redis. */
export async function http({ rounds, seconds, tasks, isSmoke, before }: Settings): Promise<Results> {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-http-'))
  const redis: Redis = await startRedis(folder)
  const start = async (checkout: string, suffix: string): Promise<{ [id: string]: Running }> => ({
    [`sqlite${suffix}`]: await startXQueueOf(checkout, `sqlite:${join(folder, `x${suffix}.db`)}`, '--no-worker'),
    [`redis${suffix}`]: await startXQueueOf(
      checkout,
      `redis://127.0.0.1:${redis.port}?prefix=x${suffix}`,
      '--no-worker',
    ),
  })
  const bare = await startBare()
  const ours = await start(root, '')
  const servers = { ...ours, ...(before === undefined ? {} : await start(before, BEFORE)), bare }
  const results: Results = { settings: { rounds, tasks }, figures: {}, latencies: {}, missing: {}, versions: {} }
  // The first round warms up.
  for (let round = isSmoke ? 0 : -1; round < rounds; round++) {
    for (const { id: measure, call, connections } of CALLS) {
      if (call === PAGE) await setPage(bare, await fetch(ours.sqlite!.url + call.path))
      for (const [id, server] of Object.entries(servers)) {
        const pids = id.startsWith('redis') ? [server.pid, redis.pid] : [server.pid]
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

/** Gives the other server the page that it is to answer with. */
async function setPage(bare: Running, page: Response): Promise<void> {
  const body = await page.text()
  const { status } = await fetch(`${bare.url}/page`, { method: 'PUT', headers: JSON_BODY, body })
  if (!page.ok || status !== 204) throw new Error(`a page of tasks was answered with ${page.status}: ${body}`)
}

async function shoot(
  url: string,
  pids: readonly number[],
  { path, body, tasks }: Call,
  connections: number,
  seconds: number,
): Promise<Figure> {
  const before = cpuMicrosOf(pids)
  const { requests, non2xx, errors, duration } = await autocannon({
    url: url + path,
    ...(body && { method: 'POST', headers: JSON_BODY, body: JSON.stringify(body) }),
    connections,
    duration: seconds,
  })
  if (non2xx + errors > 0) throw new Error(`${url}: ${non2xx} answers were no 2xx, ${errors} calls failed`)
  const count = requests.total * tasks
  const cpuUs = (cpuMicrosOf(pids) - before) / count
  return { perSecond: count / duration, cpuUs, lost: 0, twice: 0, held: 0, delays: [] }
}
