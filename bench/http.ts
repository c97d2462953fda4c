import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import autocannon from 'autocannon'
import { PAYLOAD } from './contenders/contender.ts'
import { bullmqPickUp, xqueuePickUp } from './pick-up.ts'
import { quantile, type Row, ratioRow } from './report.ts'
import { startBare, startXQueue } from './servers.ts'

const CONNECTIONS = 64
const BATCH = 100
const TASK = { type: 'bench', payload: PAYLOAD }

/** Submissions over HTTP beside a bare Fastify that only validates the same bodies, each server in its own process. */
export async function http(rounds: number, seconds: number): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-'))
  const xqueue = await startXQueue(`sqlite:${join(folder, 'x.db')}`, '--no-worker')
  const bare = await startBare()
  const rows: Row[] = []
  for (const [measure, path, body, tasks] of [
    ['HTTP, single POSTs', '/api/v1/tasks', TASK, 1],
    [`HTTP, batches of ${BATCH}`, '/api/v1/tasks/batch', { tasks: Array.from({ length: BATCH }, () => TASK) }, BATCH],
  ] as const) {
    const ours: number[] = []
    const theirs: number[] = []
    for (let round = 0; round < rounds; round++) {
      ours.push((await shoot(xqueue.url + path, body, seconds)) * tasks)
      theirs.push((await shoot(bare.url + path, body, seconds)) * tasks)
    }
    rows.push(ratioRow(measure, 'tasks/s', ours, 'bare Fastify', theirs))
  }
  await xqueue.stop()
  await bare.stop()
  rmSync(folder, { recursive: true })
  return rows
}

async function shoot(url: string, body: object, seconds: number): Promise<number> {
  const headers = { 'Content-Type': 'application/json' }
  const options = { url, method: 'POST', headers, body: JSON.stringify(body), connections: CONNECTIONS } as const
  const { requests, non2xx, errors } = await autocannon({ ...options, duration: seconds })
  if (non2xx + errors > 0) throw new Error(`${url}: ${non2xx} answers were no 2xx, ${errors} calls failed`)
  return requests.average
}

/** From the answer to a submission until its handler starts. */
export async function pickUp(redisPort: number, seconds: number): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-'))
  const ours = await xqueuePickUp(`sqlite:${join(folder, 'x.db')}`, seconds)
  const theirs = await bullmqPickUp(redisPort, seconds)
  rmSync(folder, { recursive: true })
  return [0.5, 0.99].map((share) => {
    const measure = `pick-up at 100 tasks/s, p${share * 100}`
    return ratioRow(measure, 'ms', [quantile(ours, share)], 'BullMQ', [quantile(theirs, share)])
  })
}
