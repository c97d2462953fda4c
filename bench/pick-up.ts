import { spawn } from 'node:child_process'
import { pino } from 'pino'
import { openQueue } from '../src/queue/open.ts'
import { completeSpec } from '../src/task/task.ts'
import { normalizeHandlers } from '../src/worker/handlers.ts'
import { Worker as XQueueWorker } from '../src/worker/worker.ts'
import { PAYLOAD } from './contenders/contender.ts'

const PER_SECOND = 100

/**
 * From the answer to a submission until its handler starts, in ms, for `seconds` at 100 tasks a second. The worker is in
 * a process of its own: `node pick-up.ts <URL>`.
 */
export async function libraryPickUp(url: string, seconds: number): Promise<number[]> {
  const engine = await openQueue(url)
  await engine.configureType('bench', { declared: true, maxConcurrency: 1_000 })
  const worker = spawn(process.execPath, [import.meta.filename, url], { stdio: 'inherit' })
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

/** Below zero when the handler was faster than the answer. */
function sinceMs(answered: bigint, started: string): number {
  return Number(BigInt(started) - answered) / 1e6
}

if (import.meta.main) {
  const run = async () => ({ started_ns: String(process.hrtime.bigint()) })
  const engine = await openQueue(process.argv[2]!)
  const handlers = normalizeHandlers({ bench: { concurrency: 1_000, run } })
  await new XQueueWorker({ queue: engine, handlers, logger: pino({ level: 'error' }), concurrency: 10 }).start()
}
