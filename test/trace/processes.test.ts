import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { temporaryFolder } from '../fixtures/folder.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { main, root } from '../fixtures/root.ts'

/**
 * A server without a worker and a worker without a server on one database, each with the SDK as docs/observability.md
 * has it, and a collector that both send their spans to.
 */
const TRACE_ID = '0af7651916cd43dd8448eb211c80319c'
const CALLER = 'b7ad6b7169203331'
let folder: string
let server: ChildProcess
let worker: ChildProcess
let base: string
const spans: Sent[] = []

interface Sent {
  name: string
  service: string
  traceId: string
  spanId: string
  parentSpanId?: string
}

const collector = createServer(async (request, response) => {
  let body = ''
  for await (const chunk of request) body += chunk
  for (const { resource, scopeSpans } of JSON.parse(body).resourceSpans) {
    const { value } = resource.attributes.find(({ key }: { key: string }) => key === 'service.name')
    for (const scope of scopeSpans) {
      for (const span of scope.spans) spans.push({ ...span, service: value.stringValue })
    }
  }
  response.setHeader('Content-Type', 'application/json')
  response.end('{}')
})

beforeAll(async () => {
  folder = temporaryFolder()
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  const docs = readFileSync(join(root, 'docs/observability.md'), 'utf8')
  const [, code] = /```ts\n\/\/ tracing\.ts\n([\s\S]*?)```/.exec(docs)!
  writeFileSync(join(folder, 'tracing.ts'), code!)
  await once(collector.listen(0, '127.0.0.1'), 'listening')
  worker = start('worker')
  server = start('serve', '--no-worker', '--port', '0', '--mqtt', 'off')
  base = await addressOf(server)
})
afterAll(async () => {
  for (const child of [server, worker]) {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }
  collector.close()
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
        const sent = spans.find(({ name }) => name === `send ${type}`)
        const processed = spans.find(({ parentSpanId }) => sent && parentSpanId === sent.spanId)
        const inside = spans.find(({ parentSpanId }) => processed && parentSpanId === processed.spanId)
        expect(inside).toBeDefined()
        return [sent!, processed!, inside!]
      },
      { timeout: 30_000 },
    )
    expect(send).toMatchObject({ traceId: TRACE_ID, parentSpanId: CALLER, service: 'serve' })
    expect(attempt).toMatchObject({ name: `process ${type}`, traceId: TRACE_ID, service: 'worker' })
    expect(step).toMatchObject({ name: 'step', traceId: TRACE_ID, service: 'worker' })
  })
}

it('sends ended spans before it stops', async () => {
  const answer = await fetch(`${base}/api/v1/tasks`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: '{"type": "last"}',
  })
  const { id } = (await answer.json()) as { id: string }
  const attempts = () => spans.filter(({ name }) => name === 'process last')
  await vi.waitFor(async () => {
    const task = (await (await fetch(`${base}/api/v1/tasks/${id}`)).json()) as { status: string }
    expect(task.status).toBe('success')
  })
  worker.kill('SIGTERM')
  await once(worker, 'exit')
  expect(attempts()).toHaveLength(1)
})

function start(command: string, ...args: string[]): ChildProcess {
  const settings = [
    '--engine',
    `sqlite:${join(folder, 'x.db')}`,
    '--handlers',
    join(import.meta.dirname, 'handlers.ts'),
  ]
  const { port } = collector.address() as AddressInfo
  return endAtExit(
    spawn(process.execPath, ['--import', './tracing.ts', main, command, ...args, ...settings], {
      cwd: folder,
      env: {
        ...process.env,
        OTEL_SERVICE_NAME: command,
        OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
        OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
        OTEL_METRICS_EXPORTER: 'none',
        OTEL_LOGS_EXPORTER: 'none',
      },
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
