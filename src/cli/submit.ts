import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { Command } from 'commander'
import { call } from '../client/call.ts'
import { XQueueError } from '../task/errors.ts'
import { type ClientOptions, EXIT, show, withClientOptions, withExamples } from './output.ts'
import { waitForEnd } from './tasks.ts'

const BATCH = 1_000

interface SubmitOptions extends ClientOptions {
  file?: string
  wait?: boolean
  priority?: string
  delay?: string
  maxRetry?: string
  key?: string
  group?: string
}

/** `xqueue submit`: one task from the arguments, or many from a file of lines. */
export function submitCommand(): Command {
  const command = withClientOptions(new Command('submit'))
    .description('submit a task, or a file of them')
    .argument('[type]', 'task type')
    .argument('[payload]', 'JSON', '{}')
    .option('--file <path>', 'NDJSON, one task a line as for the API; - reads standard input')
    .option('--wait', 'wait for the end; exits with 1 unless it is success')
    .option('--priority <0-9>', 'higher runs first')
    .option('--delay <duration>', 'start later, as in 90s')
    .option('--max-retry <n>', 'retries after the first attempt')
    .option('--key <key>', 'idempotency key')
    .option('--group <group>', 'tenant, account or customer: the groups of a type take turns')
    .action((type: string | undefined, payload: string, options: SubmitOptions) =>
      options.file === undefined ? submitOne(type, payload, options) : submitFile(options.file, options),
    )
  return withExamples(
    command,
    'xqueue submit example \'{"duration": 2}\' --wait',
    'xqueue submit example \'{"duration": 2}\' --group acme',
    'xqueue submit --file tasks.ndjson',
    'generate-tasks | xqueue submit --file -',
  )
}

async function submitOne(type: string | undefined, text: string, options: SubmitOptions): Promise<void> {
  if (type === undefined) throw new XQueueError('invalid_config', 'name a task type, or give --file')
  const { priority, delay, maxRetry, key, group } = options
  const body = {
    type,
    payload: parseJson(text, 'the payload'),
    ...(priority === undefined ? {} : { priority: Number(priority) }),
    ...(delay === undefined ? {} : { delay }),
    ...(maxRetry === undefined ? {} : { max_retry: Number(maxRetry) }),
    ...(key === undefined ? {} : { idempotency_key: key }),
    ...(group === undefined ? {} : { group }),
  }
  const task = await call<{ id: string; status: string }>(options.server, 'POST', '/tasks', body)
  if (!options.wait) {
    show(task, options, ({ id }) => id)
    return
  }
  const ended = await waitForEnd(options.server, task.id)
  show(ended, options, ({ id, status, error }) => `${id} ${status}${error ? `: ${error.split('\n')[0]}` : ''}`)
  if (ended.status !== 'success') process.exitCode = EXIT.failed
}

async function submitFile(path: string, options: SubmitOptions): Promise<void> {
  const input = path === '-' ? process.stdin : createReadStream(path)
  const startedAt = performance.now()
  let batch: unknown[] = []
  let submitted = 0
  const flush = async () => {
    if (batch.length === 0) return
    const { count } = await call<{ count: number }>(options.server, 'POST', '/tasks/batch', { tasks: batch })
    submitted += count
    batch = []
    if (process.stderr.isTTY) process.stderr.write(`\r${submitted} submitted, ${rate(submitted, startedAt)}/s `)
  }
  try {
    let number = 0
    for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      number += 1
      if (line.trim() === '') continue
      batch.push(parseJson(line, `line ${number}`))
      if (batch.length === BATCH) await flush()
    }
    await flush()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new XQueueError('invalid_config', `there is no file ${path}`)
    }
    process.stderr.write(`${submitted} tasks were submitted before this:\n`)
    throw error
  } finally {
    if (process.stderr.isTTY) process.stderr.write('\n')
  }
  const done = { submitted, per_second: rate(submitted, startedAt) }
  show(done, options, () => `${submitted} submitted, ${done.per_second}/s`)
}

function rate(count: number, since: number): number {
  return Math.round((count / Math.max(performance.now() - since, 1)) * 1_000)
}

/** @throws XQueueError `invalid_config` naming what was to be JSON */
export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new XQueueError('invalid_config', `${what} is no JSON: ${(error as Error).message}`)
  }
}
