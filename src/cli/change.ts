import { createInterface } from 'node:readline/promises'
import { Command } from 'commander'
import type { BatchState } from '../client/batch.ts'
import { call, type Server } from '../client/call.ts'
import type { TaskJson } from '../task/task-json.ts'
import { type FilterOptions, filterOf, withFilter } from './filter.ts'
import { EXIT, show, withClientOptions, withExamples } from './output.ts'
import { ID, taskIdOf } from './task-id.ts'

interface ChangeOptions extends FilterOptions {
  all?: boolean
  yes?: boolean
  dryRun?: boolean
}

type Change = 'cancel' | 'retry' | 'delete'

/** The calls for one task, and the name of the call for many. */
const CALLS = {
  cancel: { one: ['DELETE', ''], many: 'cancel' },
  retry: { one: ['POST', '/retry'], many: 'retry' },
  delete: { one: ['POST', '/purge'], many: 'purge' },
} as const

/** cancel, retry and delete: one task, or every task that matches a filter. */
export function changeCommands(): Command[] {
  const change = (name: Change, description: string) =>
    withFilter(withClientOptions(new Command(name)))
      .description(description)
      .argument('[id]', ID)
      .option('--all', 'select every task')
      .option('--dry-run', 'print the number of matching tasks without changing them')
      .option('--yes', 'skip the confirmation')
      .action((id: string | undefined, options: ChangeOptions) =>
        id === undefined ? changeMany(name, options) : changeOne(name, id, options),
      )
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
      'xqueue retry --status failed --created-after 2h --error "503 Service Unavailable" --dry-run',
    ),
    withExamples(
      change('delete', 'erase finished tasks with their payloads, results, errors, tags and events'),
      `xqueue delete ${id}`,
      'xqueue delete --status failed --type email --dry-run',
    ),
  ]
}

async function changeOne(name: Change, text: string, options: ChangeOptions): Promise<void> {
  const mixed = Object.keys(filterOf(options)).length > 0 || options.all || options.dryRun
  if (mixed) return refuse(`${name} takes either an ID or a filter. Use --all and --dry-run only with a filter`)
  const id = await taskIdOf(options.server, text)
  const [method, path] = CALLS[name].one
  const task = await call<TaskJson>(options.server, method, `/tasks/${encodeURIComponent(id)}${path}`)
  if (name === 'delete') return show({ id, deleted: true }, options, () => `${id} deleted`)
  show(task, options, ({ status }) => `${id} ${status}`)
}

/** Asks before it changes more than one task; without a terminal it needs --yes. */
async function changeMany(name: Change, options: ChangeOptions): Promise<void> {
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
async function changeAll(name: Change, filter: Filter, server: Server): Promise<Counted> {
  if (name === 'delete' || !isBatchAlone(filter)) return call(server, 'POST', `/tasks/${CALLS[name].many}`, filter)
  const path = `/batches/${encodeURIComponent(filter.batch)}`
  return name === 'cancel' ? call(server, 'DELETE', path) : call(server, 'POST', `${path}/retry`)
}

async function countAll(name: Change, filter: Filter, server: Server): Promise<Counted> {
  if (name === 'delete' || !isBatchAlone(filter)) {
    return call(server, 'POST', `/tasks/${CALLS[name].many}`, { ...filter, dry_run: true })
  }
  const batch = await call<BatchState>(server, 'GET', `/batches/${encodeURIComponent(filter.batch)}`)
  const { pending, processing, failed, canceled, timeout } = batch
  return { count: name === 'cancel' ? pending + processing : failed + canceled + timeout }
}

type Filter = ReturnType<typeof filterOf>

function isBatchAlone(filter: Filter): filter is { batch: string } {
  return filter.batch !== undefined && Object.keys(filter).length === 1
}
