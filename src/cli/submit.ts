import { Command } from 'commander'
import { call } from '../client/call.ts'
import { XQueueError } from '../task/errors.ts'
import { ON_FAILURE_SUMMARY } from '../task/flow.ts'
import type { Status } from '../task/status.ts'
import { EXIT, parseJson, show, warn, withClientOptions, withExamples } from './output.ts'
import { type FileOptions, submitFile } from './submit-file.ts'
import { taskIdOf } from './task-id.ts'
import { jsonText } from './task-page.ts'
import { waitForEnd } from './tasks.ts'
import { plain, statusCell } from './terminal.ts'

interface SubmitOptions extends FileOptions {
  file?: string
  wait?: boolean
  priority?: string
  delay?: string
  maxRetry?: string
  queueTimeout?: string
  processTimeout?: string
  tag?: string[]
  key?: string
  group?: string
  uses?: string[]
  after?: string[]
  onFailure?: string
}

/** Options of a single task; in a file, each line has its own. */
const OF_ONE = [
  'wait',
  'priority',
  'delay',
  'maxRetry',
  'queueTimeout',
  'processTimeout',
  'tag',
  'key',
  'group',
  'uses',
  'after',
  'onFailure',
] as const

/** `xqueue submit`: one task from the arguments, or many from a file of lines. */
export function submitCommand(): Command {
  const command = withClientOptions(new Command('submit'))
    .description('submit a task, or the tasks in a file')
    .argument('[type]', 'task type')
    .argument('[payload]', 'JSON', '{}')
    .option('--file <path>', 'NDJSON file with one task per line, as for the API; - reads standard input')
    .option('--wait', 'wait until the task ends; exits with 1 unless it succeeds')
    .option('--priority <0-9>', 'tasks with a higher priority run first')
    .option('--delay <duration>', 'delay before the start, such as 90s')
    .option('--max-retry <n>', 'retries after the first attempt')
    .option('--key <key>', 'idempotency key')
    .option('--queue-timeout <duration>', 'longest wait for the start, such as 10m; 0: no limit')
    .option('--process-timeout <duration>', 'longest run of an attempt, such as 5m; 0: no limit')
    .option('--tag <key:value...>', 'tags to select the task by, such as customer:42')
    .option('--group <group>', 'tenant, account or customer; the groups of a type take turns')
    .option('--uses <limit=units...>', 'units of named limits that the task uses while it runs, such as gpu=1')
    .option('--after <id...>', 'start when these tasks have ended')
    .option('--on-failure <policy>', `if one of them ends without success: ${ON_FAILURE_SUMMARY}`)
    .option('--batch <name>', 'batch to count, list, cancel and retry tasks together; in a file, for lines without one')
    .option('--together', 'submit all lines of the file or none, up to 10,000; "after" can name positions of lines')
    .action((type: string | undefined, payload: string, options: SubmitOptions) => {
      if (options.file === undefined) return submitOne(type, payload, options)
      const given = OF_ONE.find((name) => options[name] !== undefined)
      if (given === undefined) return submitFile(options.file, options)
      const flag = command.options.find((option) => option.attributeName() === given)!.long
      throw new XQueueError('invalid_config', `${flag} belongs to a single task: in a file, set it in each line`)
    })
  return withExamples(
    command,
    'xqueue submit example \'{"duration": 2}\' --wait',
    'xqueue submit example \'{"duration": 2}\' --group acme --tag customer:42',
    'xqueue submit example \'{"duration": 2}\' --after ID --on-failure run --batch nightly',
    'xqueue submit --file tasks.ndjson',
    'xqueue submit --file flow.ndjson --together --batch nightly',
    'generate-tasks | xqueue submit --file -',
  )
}

export function useOf(text: string): [limit: string, units: number] {
  const [, limit, units] = /^(.+)[=:](\d+)$/s.exec(text) ?? []
  if (limit !== undefined) return [limit, Number(units)]
  throw new XQueueError(
    'invalid_config',
    `--uses ${text} must be a limit and units, such as gpu=1; it ends at the next option`,
  )
}

export function tagOf(text: string): [key: string, value: string] {
  const [, key, value] = /^([^:]+):(.*)$/s.exec(text) ?? /^([^=]+)=(.*)$/s.exec(text) ?? []
  if (key !== undefined) return [key, value!]
  throw new XQueueError(
    'invalid_config',
    `--tag ${text} must be a key and a value, such as customer:42; it ends at the next option`,
  )
}

async function submitOne(type: string | undefined, text: string, options: SubmitOptions): Promise<void> {
  if (type === undefined) throw new XQueueError('invalid_config', 'no task type: name one, or use --file')
  if (options.together) throw new XQueueError('invalid_config', '--together needs --file')
  const { priority, delay, maxRetry, key, group, uses, after, onFailure, batch } = options
  const { queueTimeout, processTimeout, tag } = options
  const body = {
    type,
    payload: parseJson(text, 'the payload'),
    ...(priority === undefined ? {} : { priority: Number(priority) }),
    ...(delay === undefined ? {} : { delay }),
    ...(maxRetry === undefined ? {} : { max_retry: Number(maxRetry) }),
    ...(queueTimeout === undefined ? {} : { queue_timeout: queueTimeout }),
    ...(processTimeout === undefined ? {} : { process_timeout: processTimeout }),
    ...(tag === undefined ? {} : { tags: Object.fromEntries(tag.map(tagOf)) }),
    ...(key === undefined ? {} : { idempotency_key: key }),
    ...(group === undefined ? {} : { group }),
    ...(uses === undefined ? {} : { uses: Object.fromEntries(uses.map(useOf)) }),
    ...(after === undefined ? {} : { after: await Promise.all(after.map((id) => taskIdOf(options.server, id))) }),
    ...(onFailure === undefined ? {} : { on_failure: onFailure }),
    ...(batch === undefined ? {} : { batch }),
  }
  const task = await call<{ id: string; status: string }>(options.server, 'POST', '/tasks', body)
  if (!options.wait) {
    show(task, options, ({ id }) => id)
    return
  }
  warn(`${task.id} submitted`) // Whatever happens while it waits, the user has the id.
  const ended = await waitForEnd(options.server, task.id)
  show(ended, options, ({ id, status, error, result }) => {
    const head = `${id} ${statusCell(status as Status)}${error ? `: ${plain(error.split('\n')[0]!)}` : ''}`
    return status === 'success' && result !== null ? `${head}\n${jsonText(result)}` : head
  })
  if (ended.status !== 'success') process.exitCode = EXIT.failed
}
