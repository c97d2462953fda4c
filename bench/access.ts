import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import autocannon from 'autocannon'
import { PAYLOAD } from './contenders/contender.ts'
import { type Row, ratioRow } from './report.ts'
import { root, startXQueue } from './servers.ts'

const CONNECTIONS = 50

/**
 * Submissions to a server with access control beside one without, in turns. CPU of the server's process for each call is
 * the figure to trust: on a machine with other work, throughput says more of that work.
 */
export async function access(redisPort: number, rounds: number, seconds: number): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-'))
  const rows: Row[] = []
  for (const [store, engineOf] of [
    ['SQLite', (auth: string) => `sqlite:${join(folder, `${auth}.db`)}`],
    ['Redis', (auth: string) => `redis://127.0.0.1:${redisPort}?prefix=access-${auth}`],
  ] as const) {
    const off = await startXQueue(engineOf('off'), '--no-worker')
    const keys = await startXQueue(engineOf('keys'), '--no-worker', '--auth', 'keys')
    const key = createKey(engineOf('keys'))
    const cpu = { keys: [] as number[], off: [] as number[] }
    const rate = { keys: [] as number[], off: [] as number[] }
    // The first round warms up.
    for (let round = -1; round < rounds; round++) {
      for (const [name, server, headers] of [
        ['off', off, {}],
        ['keys', keys, { Authorization: `Bearer ${key}` }],
      ] as const) {
        const before = server.cpuMicros()
        const { calls, perSecond } = await shoot(server.url, headers, seconds)
        if (round < 0) continue
        cpu[name].push((server.cpuMicros() - before) / calls)
        rate[name].push(perSecond)
      }
    }
    rows.push(ratioRow(`HTTP, single POSTs, keys, ${store}`, 'tasks/s', rate.keys, 'no keys', rate.off))
    rows.push(ratioRow(`CPU of a POST, keys, ${store}`, 'µs', cpu.keys, 'no keys', cpu.off))
    await off.stop()
    await keys.stop()
  }
  rmSync(folder, { recursive: true })
  return rows
}

/** A key that may submit, made as an operator makes it. */
function createKey(engine: string): string {
  const args = [join(root, 'src/cli/xqueue.ts'), 'keys', 'create', 'bench', '--scopes', 'submit', '--engine', engine]
  return execFileSync(process.execPath, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
}

async function shoot(url: string, headers: object, seconds: number): Promise<{ calls: number; perSecond: number }> {
  const { requests, non2xx, errors } = await autocannon({
    url: `${url}/api/v1/tasks`,
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify({ type: 'bench', payload: PAYLOAD }),
    connections: CONNECTIONS,
    duration: seconds,
  })
  if (non2xx + errors > 0) throw new Error(`${url}: ${non2xx} answers were no 2xx, ${errors} calls failed`)
  return { calls: requests.total, perSecond: requests.average }
}
