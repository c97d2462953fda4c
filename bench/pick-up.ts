import { spawn } from 'node:child_process'
import { Queue, QueueEvents, Worker } from 'bullmq'
import { pino } from 'pino'
import { openQueue } from '../src/queue/open.ts'
import { completeSpec } from '../src/task/task.ts'
import { normalizeHandlers } from '../src/worker/handlers.ts'
import { Worker as XQueueWorker } from '../src/worker/worker.ts'
import { PAYLOAD } from './contenders/contender.ts'
import { startXQueue } from './servers.ts'

const PER_SECOND = 100

/** From the answer to a submission until its handler starts, in ms, for `seconds` at 100 tasks a second. */
export async function xqueuePickUp(engine: string, seconds: number): Promise<number[]> {
  const server = await startXQueue(engine)
  const post = async () => {
    const body = JSON.stringify({ type: 'bench', payload: PAYLOAD })
    const headers = { 'Content-Type': 'application/json' }
    const response = await fetch(`${server.url}/api/v1/tasks`, { method: 'POST', headers, body })
    const { id } = (await response.json()) as { id: string }
    return { id, answered: process.hrtime.bigint() }
  }
  const submitted = await steadily(seconds, post)
  const delays = []
  for (const { id, answered } of submitted) {
    const { result } = (await until(`${server.url}/api/v1/tasks/${id}`)) as { result: { started_ns: string } }
    delays.push(sinceMs(answered, result.started_ns))
  }
  await server.stop()
  return delays
}

/** The same of the library, whose worker is in a process of its own: `node pick-up.ts xqueue-worker <URL>`. */
export async function libraryPickUp(url: string, seconds: number): Promise<number[]> {
  const engine = await openQueue(url)
  await engine.configureType('bench', { declared: true, maxConcurrency: 1_000 })
  const worker = spawn(process.execPath, [import.meta.filename, 'xqueue-worker', url], { stdio: 'inherit' })
  const spec = completeSpec({ type: 'bench', payload: PAYLOAD })
  const ended = async (id: string) => {
    for (;;) {
      const [task] = await engine.get([id])
      if (task?.status === 'success') return task.result as { started_ns: string }
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  const [warm] = await engine.submit([spec])
  await ended(warm!.task.id)
  const submitted = await steadily(seconds, async () => {
    const [one] = await engine.submit([spec])
    return { id: one!.task.id, answered: process.hrtime.bigint() }
  })
  const delays = []
  for (const { id, answered } of submitted) delays.push(sinceMs(answered, (await ended(id)).started_ns))
  worker.kill()
  await engine.close()
  return delays
}

/** The same of BullMQ, whose worker is in a process of its own as well: `node pick-up.ts worker <port>`. */
export async function bullmqPickUp(port: number, seconds: number): Promise<number[]> {
  const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null }
  const queue = new Queue('pick-up', { connection })
  const events = new QueueEvents('pick-up', { connection })
  await events.waitUntilReady()
  const worker = spawn(process.execPath, [import.meta.filename, 'worker', String(port)], { stdio: 'inherit' })
  const warm = await queue.add('bench', PAYLOAD)
  await warm.waitUntilFinished(events)
  const submitted = await steadily(seconds, async () => {
    const job = await queue.add('bench', PAYLOAD)
    return { job, answered: process.hrtime.bigint() }
  })
  const delays = []
  for (const { job, answered } of submitted) {
    const { started_ns } = (await job.waitUntilFinished(events)) as { started_ns: string }
    delays.push(sinceMs(answered, started_ns))
  }
  worker.kill()
  await events.close()
  await queue.close()
  return delays
}

async function steadily<T>(seconds: number, submit: () => Promise<T>): Promise<T[]> {
  const submitted: Promise<T>[] = []
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      submitted.push(submit())
      if (submitted.length < seconds * PER_SECOND) return
      clearInterval(timer)
      resolve()
    }, 1_000 / PER_SECOND)
  })
  return Promise.all(submitted)
}

async function until(url: string): Promise<unknown> {
  for (;;) {
    const task = (await (await fetch(url)).json()) as { status: string }
    if (task.status === 'success') return task
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Below zero when the handler was faster than the answer. */
function sinceMs(answered: bigint, started: string): number {
  return Number(BigInt(started) - answered) / 1e6
}

if (import.meta.main) {
  const [, , which, where] = process.argv
  const run = async () => ({ started_ns: String(process.hrtime.bigint()) })
  if (which === 'worker') {
    const connection = { host: '127.0.0.1', port: Number(where), maxRetriesPerRequest: null }
    new Worker('pick-up', run, { connection, concurrency: 10 })
  } else {
    const engine = await openQueue(where!)
    const handlers = normalizeHandlers({ bench: { concurrency: 1_000, run } })
    await new XQueueWorker({ queue: engine, handlers, logger: pino({ level: 'error' }), concurrency: 10 }).start()
  }
}
