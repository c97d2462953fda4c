import { Command } from 'commander'
import { call } from '../client/call.ts'
import { XQueueError } from '../task/errors.ts'
import { EXIT, parseJson, show, withClientOptions, withExamples } from './output.ts'
import { type FileOptions, submitFile } from './submit-file.ts'
import { waitForEnd } from './tasks.ts'

interface SubmitOptions extends FileOptions {
  file?: string
  wait?: boolean
  priority?: string
  delay?: string
  maxRetry?: string
  key?: string
  group?: string
  after?: string[]
  onFailure?: string
}

/** What is said of one task; in a file each line says its own. */
const OF_ONE = ['wait', 'priority', 'delay', 'maxRetry', 'key', 'group', 'after', 'onFailure'] as const

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
    .option('--after <id...>', 'start only when these tasks have ended')
    .option('--on-failure <way>', 'when one of them fails: cancel (default), run all the same, or wait for its retry')
    .option(
      '--batch <name>',
      'a name to count, list, cancel and retry tasks under; of a file, for the lines without one',
    )
    .option('--together', 'all of the file or none, up to 10,000 lines, which may wait for each other by their places')
    .action((type: string | undefined, payload: string, options: SubmitOptions) => {
      if (options.file === undefined) return submitOne(type, payload, options)
      const given = OF_ONE.find((name) => options[name] !== undefined)
      if (given === undefined) return submitFile(options.file, options)
      const flag = command.options.find((option) => option.attributeName() === given)!.long
      throw new XQueueError('invalid_config', `${flag} is said of one task: in a file, each line says it of its own`)
    })
  return withExamples(
    command,
    'xqueue submit example \'{"duration": 2}\' --wait',
    'xqueue submit example \'{"duration": 2}\' --group acme',
    'xqueue submit example \'{"duration": 2}\' --after ID --on-failure run --batch nightly',
    'xqueue submit --file tasks.ndjson',
    'xqueue submit --file flow.ndjson --together --batch nightly',
    'generate-tasks | xqueue submit --file -',
  )
}

async function submitOne(type: string | undefined, text: string, options: SubmitOptions): Promise<void> {
  if (type === undefined) throw new XQueueError('invalid_config', 'name a task type, or give --file')
  if (options.together) throw new XQueueError('invalid_config', '--together is said of a --file')
  const { priority, delay, maxRetry, key, group, after, onFailure, batch } = options
  const body = {
    type,
    payload: parseJson(text, 'the payload'),
    ...(priority === undefined ? {} : { priority: Number(priority) }),
    ...(delay === undefined ? {} : { delay }),
    ...(maxRetry === undefined ? {} : { max_retry: Number(maxRetry) }),
    ...(key === undefined ? {} : { idempotency_key: key }),
    ...(group === undefined ? {} : { group }),
    ...(after === undefined ? {} : { after }),
    ...(onFailure === undefined ? {} : { on_failure: onFailure }),
    ...(batch === undefined ? {} : { batch }),
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
