import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Offered } from './load/open-loop.ts'
import { quantile, type Row } from './report.ts'
import { startXQueue } from './servers.ts'

const CONNECTIONS = 4_000
/** Connections with which a server answers as much as it can. */
const BUSY = 500
const CAPACITY_S = 4
const NEVER = ['--overload-wait', '1h', '--overload-calls', '1000000']

/**
 * Submissions over HTTP at a multiple of what the server answers, beside the same server that refuses nothing. The
 * times of accepted calls count from the sending, and once more from the moment at which a call was due: then with the
 * wait for one of the generator's connections.
 */
export async function overload(rounds: number, seconds: number, times = 2): Promise<Row[]> {
  const kinds = { admitted: [] as Offered[], open: [] as Offered[] }
  for (let round = 0; round < rounds; round++) {
    const { accepted } = await withServer(NEVER, (url) => offer(url, BUSY, 0, CAPACITY_S))
    const rate = (times * accepted) / CAPACITY_S
    for (const [kind, flags] of [
      ['admitted', []],
      ['open', NEVER],
    ] as const) {
      const offered = await withServer(flags, (url) => offer(url, CONNECTIONS, rate, seconds))
      kinds[kind].push(offered)
      console.error(JSON.stringify({ kind, rate, ...offered, latencies: undefined, answers: undefined }))
    }
  }
  const row = (measure: string, unit: string, figure: (one: Offered) => number): Row => {
    const [ours, others] = [kinds.admitted.map(figure), kinds.open.map(figure)]
    const [xqueue, other] = [quantile(ours, 0.5), quantile(others, 0.5)]
    const beside = 'refusing nothing'
    return { measure, unit, xqueue, beside, other, ratio: null, rounds: { xqueue: ours, other: others } }
  }
  const at = `HTTP at ${times * 100} % of capacity, ${CONNECTIONS.toLocaleString('en')} connections`
  return [
    row(`${at}: accepted`, 'tasks/s', ({ accepted }) => accepted / seconds),
    row(`${at}: refused`, 'calls/s', ({ refused }) => refused / seconds),
    row(`${at}: p50 of accepted`, 'ms', ({ answers }) => quantile(answers, 0.5)),
    row(`${at}: p99 of accepted`, 'ms', ({ answers }) => quantile(answers, 0.99)),
    row(`${at}: p99 of refused`, 'ms', ({ refusedP99 }) => refusedP99),
    row(`${at}: p99 of accepted, from due`, 'ms', ({ latencies }) => quantile(latencies, 0.99)),
    row(`${at}: without an answer`, 'calls', ({ unanswered }) => unanswered),
  ]
}

async function withServer(flags: readonly string[], work: (url: string) => Promise<Offered>): Promise<Offered> {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-'))
  const server = await startXQueue(`sqlite:${join(folder, 'x.db')}`, '--no-worker', ...flags)
  const offered = await work(server.url)
  await server.stop()
  rmSync(folder, { recursive: true })
  return offered
}

/** @param rate calls per second; 0: each connection makes its next call when it has its answer */
async function offer(url: string, connections: number, rate: number, seconds: number): Promise<Offered> {
  const args = [join(import.meta.dirname, 'load/open-loop.ts'), url, connections, rate, seconds].map(String)
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  return JSON.parse(await text(child.stdout))
}
