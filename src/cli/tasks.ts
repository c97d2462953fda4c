import { Command } from 'commander'
import { call, type Server } from '../client/call.ts'
import { changes } from '../client/event-stream.ts'
import { isFinal } from '../task/status.ts'
import type { TaskJson } from '../task/task-json.ts'
import { type FilterOptions, filterOf, withFilter } from './filter.ts'
import { type ClientOptions, facts, print, show, table, withClientOptions, withExamples } from './output.ts'

const POLL_MS = 100

/** get, watch, list. */
export function taskCommands(): Command[] {
  const get = withClientOptions(new Command('get'))
    .description('show one task')
    .argument('<id>')
    .action(async (id: string, options: ClientOptions) => {
      const task = await call<TaskJson>(options.server, 'GET', `/tasks/${encodeURIComponent(id)}`)
      show(task, options, (fields) => facts({ ...fields }))
    })
  const watch = withClientOptions(new Command('watch'))
    .description('follow one task until it ends, or all status changes')
    .argument('[id]')
    .option('--type <type>')
    .option('--status <status>')
    .action(follow)
  const list = withFilter(withClientOptions(new Command('list')))
    .description('list tasks, newest first; pending tasks in the order of their starts')
    .option('--limit <n>', 'maximum number of tasks', '50')
    .action(async (options: FilterOptions & { limit?: string }) => {
      const query = new URLSearchParams({ ...filterOf(options), limit: options.limit ?? '50' })
      const { tasks } = await call<{ tasks: TaskJson[] }>(options.server, 'GET', `/tasks?${query}`)
      const rows = (all: TaskJson[]) =>
        all.map((task) => [task.id, task.type, task.status, task.attempts, task.created_at])
      show(tasks, options, (all) => table(['ID', 'TYPE', 'STATUS', 'ATTEMPTS', 'CREATED'], rows(all)))
    })
  const id = '01890a5d-ac96-774b-bcce-b302099a8057'
  return [
    withExamples(get, `xqueue get ${id}`, `xqueue get ${id} --json`),
    withExamples(watch, `xqueue watch ${id}`, 'xqueue watch --type email --status failed'),
    withExamples(
      list,
      'xqueue list --status pending --type email',
      'xqueue list --tag customer:42 --limit 10',
      'xqueue list --group acme',
      'xqueue list --batch nightly --status failed',
    ),
  ]
}

/** Resolves with the task once its status is final. */
export async function waitForEnd(server: Server, id: string): Promise<TaskJson> {
  for (;;) {
    const task = await call<TaskJson>(server, 'GET', `/tasks/${encodeURIComponent(id)}`)
    if (isFinal(task.status)) return task
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** Prints changes as they happen; with an id, first the current status, and until the task has ended. */
async function follow(id: string | undefined, options: FilterOptions): Promise<void> {
  const stop = new AbortController()
  let failure: unknown
  const showCurrent = async () => {
    const task = await call<TaskJson>(options.server, 'GET', `/tasks/${encodeURIComponent(id!)}`)
    print(options.json ? JSON.stringify(task) : `${task.id} ${task.type} ${task.status}`)
    if (isFinal(task.status)) stop.abort()
  }
  // Read after the stream is open, so that no change is missed in between.
  const opened = () => {
    if (id === undefined) return
    showCurrent().catch((error: unknown) => {
      failure = error
      stop.abort()
    })
  }
  const query = { ...(id === undefined ? {} : { taskId: id }), ...filterOf(options) }
  for await (const change of changes(options.server, query, stop.signal, opened)) {
    const { timestamp, task_id, type, status, progress } = change
    const told = progress === null ? '' : ` ${JSON.stringify(progress)}`
    print(options.json ? JSON.stringify(change) : `${timestamp} ${task_id} ${type} ${status}${told}`)
    if (id !== undefined && isFinal(status)) return
  }
  if (failure) throw failure
}
