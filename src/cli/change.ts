import { createInterface } from 'node:readline/promises'
import { Command } from 'commander'
import type { BatchState } from '../client/batch.ts'
import { call, type Server } from '../client/call.ts'
import type { TaskJson } from '../task/task-json.ts'
import { type FilterOptions, filterOf, withFilter } from './filter.ts'
import { type ClientOptions, EXIT, show, withClientOptions, withExamples } from './output.ts'
import { ID, taskIdOf } from './task-id.ts'

interface ChangeOptions extends FilterOptions {
  all?: boolean
  yes?: boolean
  dryRun?: boolean
}

/** cancel and retry: one task, or every task that matches a filter. delete: one finished task. */
export function changeCommands(): Command[] {
  const change = (name: 'cancel' | 'retry', description: string) =>
    withFilter(withClientOptions(new Command(name)))
      .description(description)
      .argument('[id]', ID)
      .option('--all', 'select every task')
      .option('--dry-run', 'print the number of matching tasks without changing them')
      .option('--yes', 'skip the confirmation')
      .action((id: string | undefined, options: ChangeOptions) =>
        id === undefined ? changeMany(name, options) : changeOne(name, id, options),
      )
  const remove = withClientOptions(new Command('delete'))
    .description('erase a finished task with its payload, result, error, tags and events')
    .argument('<id>', ID)
    .action(async (text: string, options: ClientOptions) => {
      const id = await taskIdOf(options.server, text)
      await call(options.server, 'POST', `/tasks/${encodeURIComponent(id)}/purge`)
      show({ id, deleted: true }, options, () => `${id} deleted`)
    })
  const id = '01890a5d-ac96-774b-bcce-b302099a8057'
  return [
    withExamples(
      change('cancel', 'cancel a task, or all matching tasks'),
      `xqueue cancel ${id}`,
      'xqueue cancel --type email --dry-run',
      'xqueue cancel --batch nightly --yes',
    ),
    withExamples(
      change('retry', 'run failed, canceled or timed-out tasks again'),
      `xqueue retry ${id}`,
      'xqueue retry --status failed --type email --yes',
      'xqueue retry --batch nightly --dry-run',
    ),
    withExamples(remove, `xqueue delete ${id}`),
  ]
}

async function changeOne(name: 'cancel' | 'retry', text: string, options: ChangeOptions): Promise<void> {
  const mixed = Object.keys(filterOf(options)).length > 0 || options.all || options.dryRun
  if (mixed) return refuse(`${name} takes either an ID or a filter. Use --all and --dry-run only with a filter`)
  const id = await taskIdOf(options.server, text)
  const [method, path] = name === 'cancel' ? ['DELETE', ''] : ['POST', '/retry']
  const task = await call<TaskJson>(options.server, method, `/tasks/${encodeURIComponent(id)}${path}`)
  show(task, options, ({ status }) => `${id} ${status}`)
}

/** Asks before it changes more than one task; without a terminal it needs --yes. */
async function changeMany(name: 'cancel' | 'retry', options: ChangeOptions): Promise<void> {
  const { server } = options
  const filter = filterOf(options)
  if (Object.keys(filter).length === 0 && !options.all) return refuse(`${name} needs an ID, a filter or --all`)
  if (options.dryRun) return show(await countAll(name, filter, server), options, tasksCounted)
  if (!options.yes) {
    if (!process.stdin.isTTY || !process.stderr.isTTY) {
      return refuse(`${name} would change every matching task. Add --yes to confirm, or --dry-run to count them`)
    }
    const counted = tasksCounted(await countAll(name, filter, server))
    if (!(await confirmed(`${name} ${counted}?`))) return refuse('nothing was changed', EXIT.failed)
  }
  show(await changeAll(name, filter, server), options, tasksCounted)
}

interface Counted {
  count: number
  more?: boolean
}

function tasksCounted({ count, more }: Counted): string {
  return `${more ? 'more than ' : ''}${count} ${count === 1 ? 'task' : 'tasks'}`
}

async function confirmed(question: string): Promise<boolean> {
  const reading = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return /^y(es)?$/i.test((await reading.question(`${question} [y/N] `)).trim())
  } finally {
    reading.close()
  }
}

function refuse(message: string, code: number = EXIT.usage): void {
  process.stderr.write(`xqueue: ${message}\n`)
  process.exitCode = code
}

/** A filter by batch only uses the calls of the batch: they need less scope, and report an unknown name. */
async function changeAll(name: 'cancel' | 'retry', filter: Filter, server: Server): Promise<Counted> {
  if (!isBatchAlone(filter)) return call(server, 'POST', `/tasks/${name}`, filter)
  const path = `/batches/${encodeURIComponent(filter.batch)}`
  return name === 'cancel' ? call(server, 'DELETE', path) : call(server, 'POST', `${path}/retry`)
}

async function countAll(name: 'cancel' | 'retry', filter: Filter, server: Server): Promise<Counted> {
  if (!isBatchAlone(filter)) return call(server, 'POST', `/tasks/${name}`, { ...filter, dry_run: true })
  const batch = await call<BatchState>(server, 'GET', `/batches/${encodeURIComponent(filter.batch)}`)
  const { pending, processing, failed, canceled, timeout } = batch
  return { count: name === 'cancel' ? pending + processing : failed + canceled + timeout }
}

type Filter = ReturnType<typeof filterOf>

function isBatchAlone(filter: Filter): filter is { batch: string } {
  return filter.batch !== undefined && Object.keys(filter).length === 1
}
