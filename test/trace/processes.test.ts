import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { endAtExit } from '../services/processes.ts'

/** A server without a worker and a worker without a server, each with an SDK of its own, on one database. */
const root = join(import.meta.dirname, '../..')
const TRACE_ID = '0af7651916cd43dd8448eb211c80319c'
const CALLER = 'b7ad6b7169203331'
let folder: string
let server: ChildProcess
let worker: ChildProcess
let base: string

interface Line {
  name: string
  pid: number
  traceId: string
  spanId: string
  parentId: string | null
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'xqueue-trace-'))
  writeFileSync(join(folder, 'spans'), '')
  worker = start('worker')
  server = start('serve', '--no-worker', '--port', '0', '--mqtt', 'off')
  base = await addressOf(server)
})
afterAll(async () => {
  for (const child of [server, worker]) {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }
  rmSync(folder, { recursive: true, maxRetries: 5, retryDelay: 100 })
})

for (const type of ['traced', 'isolated']) {
  it(`is one trace from a caller over the server to a worker of another process: ${type}`, async () => {
    const answer = await fetch(`${base}/api/v1/tasks`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', traceparent: `00-${TRACE_ID}-${CALLER}-01` },
      body: JSON.stringify({ type }),
    })
    expect(answer.status).toBe(201)
    const [send, attempt, step] = await vi.waitFor(
      () => {
        const spans = spansOf()
        const sent = spans.find(({ name }) => name === `send ${type}`)
        const processed = spans.find(({ parentId }) => parentId === sent?.spanId)
        const inside = spans.find(({ parentId }) => parentId === processed?.spanId)
        expect(inside).toBeDefined()
        return [sent!, processed!, inside!]
      },
      { timeout: 30_000 },
    )
    expect(send).toMatchObject({ traceId: TRACE_ID, parentId: CALLER, pid: server.pid })
    expect(attempt).toMatchObject({ name: `process ${type}`, traceId: TRACE_ID, pid: worker.pid })
    expect(step).toMatchObject({ name: 'step', traceId: TRACE_ID, pid: worker.pid })
  })
}

function spansOf(): Line[] {
  const lines = readFileSync(join(folder, 'spans'), 'utf8').trim().split('\n').filter(Boolean)
  return lines.map((line) => JSON.parse(line))
}

function start(...args: string[]): ChildProcess {
  const settings = [
    '--engine',
    `sqlite:${join(folder, 'x.db')}`,
    '--handlers',
    join(import.meta.dirname, 'handlers.ts'),
  ]
  const preload = ['--import', join(import.meta.dirname, 'exporter.ts')]
  return endAtExit(
    spawn(process.execPath, [...preload, join(root, 'src/cli/main.ts'), ...args, ...settings], {
      cwd: folder,
      env: { ...process.env, SPANS: join(folder, 'spans') },
      stdio: ['ignore', 'ignore', 'pipe'],
    }),
  )
}

function addressOf(child: ChildProcess): Promise<string> {
  let log = ''
  child.stderr!.on('data', (chunk) => {
    log += chunk
  })
  return vi.waitFor(
    () => {
      const address = /"address":"([^"]+)"/.exec(log)?.[1]
      if (!address) throw new Error(`not ready yet: ${log}`)
      return address
    },
    { timeout: 30_000 },
  )
}
