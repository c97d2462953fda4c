import { mkdtempSync, rmSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { cpuMicrosOf } from './processes.ts'
import { type Row, ratioRow } from './report.ts'
import { type Running, startWorker, startXQueue } from './servers.ts'

/** What starts a process has ended by then, such as compiling. */
const SETTLES_MS = 10_000
const STORES = ['SQLite', 'Redis']
const WORKERS = 20
const CALLS = 1_000
/** As the Go client waits. */
const WAIT = '30s'

interface Idle {
  processes: number
  /** Percent of a core, of each process and of Redis. */
  cpu: number
  redisCpu: number
  /** Each second, with those inside of scripts. */
  commands: number
  connections: number
}

/** What waits for tasks, and what else runs, without a task: `seconds` of each kind on each store. */
export async function idle(port: number, redisPid: number, seconds: number, stores = STORES): Promise<Row[]> {
  const rows: Row[] = []
  for (const store of stores) {
    for (const [kind, start] of Object.entries(KINDS)) {
      const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-'))
      const url = store === 'Redis' ? `redis://127.0.0.1:${port}` : `sqlite:${join(folder, 'x.db')}`
      const redis = new Redis(port)
      await redis.flushall()
      const running = await start(url)
      await pause(SETTLES_MS)
      const one = await measured(running, redis, redisPid, seconds)
      for (const { stop } of running) await stop()
      redis.disconnect()
      rmSync(folder, { recursive: true })
      console.error(`${store}, ${kind}: ${JSON.stringify(one)}`)
      const row = (what: string, unit: string, figure: number) =>
        rows.push(ratioRow(`${store}, ${kind}: ${what}`, unit, [figure], '', []))
      row(one.processes > 1 ? 'CPU of each' : 'CPU', '% of a core', one.cpu)
      if (store === 'SQLite') continue
      row('CPU of Redis', '% of a core', one.redisCpu)
      row('commands of Redis', 'per second', one.commands)
      row('connections to Redis', '', one.connections)
    }
  }
  return rows
}

const KINDS: Record<string, (url: string) => Promise<Running[]>> = {
  'a server': async (url) => [await startXQueue(url, '--no-worker')],
  'a worker': async (url) => [await startWorker(url)],
  'a server with a worker': async (url) => [await startXQueue(url)],
  [`${WORKERS} workers`]: async (url) => {
    const running: Running[] = []
    for (let number = 0; number < WORKERS; number++) running.push(await startWorker(url))
    return running
  },
  [`a server with ${CALLS.toLocaleString('en')} workers over HTTP, each of its own type`]: async (url) => {
    const server = await startXQueue(url, '--no-worker')
    const agent = new Agent({ keepAlive: true, maxSockets: CALLS })
    const stopped = new AbortController()
    for (let number = 0; number < CALLS; number++) void claimOnAndOn(server.url, number, agent, stopped.signal)
    const stop = async () => {
      stopped.abort()
      agent.destroy()
      await server.stop()
    }
    return [{ ...server, stop }]
  },
}

async function claimOnAndOn(url: string, number: number, agent: Agent, signal: AbortSignal): Promise<void> {
  const body = JSON.stringify({ worker_id: `idle-${number}`, types: [`idle-${number}`], max: 1, wait: WAIT })
  const headers = { 'content-type': 'application/json' }
  while (!signal.aborted) {
    await new Promise<void>((resolve) => {
      const call = request(`${url}/api/v1/tasks/consume`, { method: 'POST', agent, headers, signal }, (answer) => {
        if (answer.statusCode !== 200) console.error(`a call was answered with ${answer.statusCode}`)
        answer.resume().once('end', resolve)
      })
      call.once('error', () => resolve()) // The server has stopped.
      call.end(body)
    })
  }
}

async function measured(running: readonly Running[], redis: Redis, redisPid: number, seconds: number): Promise<Idle> {
  const pids = running.map(({ pid }) => pid)
  const read = async () => ({ cpu: cpuMicrosOf(pids), redisCpu: cpuMicrosOf([redisPid]), ...(await countsOf(redis)) })
  const before = await read()
  await pause(seconds * 1_000)
  const after = await read()
  const percent = (micros: number) => micros / seconds / 10_000
  return {
    processes: running.length,
    cpu: percent(after.cpu - before.cpu) / running.length,
    redisCpu: percent(after.redisCpu - before.redisCpu),
    commands: (after.commands - before.commands) / seconds,
    connections: after.connections,
  }
}

/** Without the measuring connection and its commands. */
async function countsOf(redis: Redis): Promise<{ commands: number; connections: number }> {
  const stats = await redis.info('commandstats')
  const [, clients] = /^connected_clients:(\d+)/m.exec(await redis.info('clients'))!
  const calls = [...stats.matchAll(/^cmdstat_\S+?:calls=(\d+)/gm)]
  return { commands: calls.reduce((sum, [, count]) => sum + Number(count), 0) - 2, connections: Number(clients) - 1 }
}
