import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { pino } from 'pino'
import { openQueue } from '../queue/open.ts'
import { Sweeper } from '../queue/sweeper.ts'
import { XQueueError } from '../task/errors.ts'
import { completeSpec } from '../task/task.ts'
import { normalizeHandlers } from '../worker/handlers.ts'
import { Worker } from '../worker/worker.ts'
import { print, table, withExamples } from './output.ts'

interface BenchOptions {
  engine?: string
  tasks: string
  concurrency: string
  json?: boolean
}

const TYPE = 'xqueue-bench'
const BATCH = 1_000
const CALLERS = 100
const SPEC = completeSpec({
  type: TYPE,
  payload: { to: 'ann@example.com', subject: 'Your order has shipped', order: 7 },
})

/** `xqueue bench`: the throughput of this machine, in one process, with handlers that do nothing. */
export function benchCommand(): Command {
  const command = new Command('bench')
    .description('measure the throughput of this machine with handlers that do nothing')
    .option('--engine <url>', 'engine to measure (default: a temporary SQLite file); the tasks stay in it')
    .option('--tasks <n>', 'number of tasks per figure', '20000')
    .option('--concurrency <n>', 'number of tasks that run at once', '100')
    .option('--json', 'print JSON')
    .action(run)
  return withExamples(command, 'xqueue bench', 'xqueue bench --tasks 100000 --engine sqlite:/data/bench.db')
}

async function run(options: BenchOptions): Promise<void> {
  const tasks = Math.ceil(integer('tasks', options.tasks) / BATCH) * BATCH
  const concurrency = integer('concurrency', options.concurrency)
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-'))
  const engine = await openQueue(options.engine ?? `sqlite:${join(folder, 'bench.db')}`)
  try {
    await engine.configureType(TYPE, { declared: true })
    const submitBatches = async () => {
      const batch = Array.from({ length: BATCH }, () => SPEC)
      for (let submitted = 0; submitted < tasks; submitted += BATCH) await engine.submit(batch)
    }
    const submitSingles = async () => {
      let left = tasks
      const caller = async () => {
        while (left-- > 0) await engine.submit([SPEC])
      }
      await Promise.all(Array.from({ length: CALLERS }, caller))
    }
    const processAll = async () => {
      const logger = pino({ level: 'error' })
      const ended = Promise.withResolvers<void>()
      let left = 2 * tasks
      const onAttempt = () => {
        left -= 1
        if (left === 0) ended.resolve()
      }
      const sweeper = new Sweeper(engine, logger)
      const handlers = normalizeHandlers({ [TYPE]: { run: async () => ({ ok: true }) } })
      const worker = new Worker({ queue: engine, handlers, logger, concurrency, onAttempt })
      sweeper.start()
      await worker.start()
      await ended.promise
      await worker.stop()
      await sweeper.stop()
    }
    const figures = [
      { measure: `submit, batches of ${BATCH}`, per_second: await rate(tasks, submitBatches) },
      { measure: `submit, ${CALLERS} callers at once`, per_second: await rate(tasks, submitSingles) },
      { measure: `process, ${concurrency} at once`, per_second: await rate(2 * tasks, processAll) },
    ]
    const { durability } = await engine.health()
    if (options.json) print(JSON.stringify({ durability, figures }))
    else {
      const rows = figures.map(({ measure, per_second }) => [measure, per_second.toLocaleString('en')])
      print(`${table(['MEASURE', 'TASKS/S'], rows)}\nAn accepted task ${durability}.`)
    }
  } finally {
    await engine.close()
    rmSync(folder, { recursive: true })
  }
}

async function rate(count: number, work: () => Promise<void>): Promise<number> {
  const started = performance.now()
  await work()
  return Math.round((count / (performance.now() - started)) * 1_000)
}

function integer(name: string, text: string): number {
  if (/^[1-9]\d{0,7}$/.test(text)) return Number(text)
  throw new XQueueError('invalid_config', `--${name} is ${JSON.stringify(text)}: it must be an integer of 1 or more`)
}
