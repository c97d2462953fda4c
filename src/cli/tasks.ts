import { Command } from 'commander'
import { call, type Server } from '../client/call.ts'
import { changesJson } from '../client/event-stream.ts'
import { readPatiently } from '../client/patience.ts'
import { endedWithin } from '../client/wait-call.ts'
import { XQueueError } from '../task/errors.ts'
import { isFinal, type Status } from '../task/status.ts'
import type { TaskJson } from '../task/task-json.ts'
import { type Attempts, attemptLines } from './attempts.ts'
import { type FilterOptions, filterOf, withFilter } from './filter.ts'
import { logsCommand, readLog } from './logs.ts'
import { type ClientOptions, print, show, warn, warnAway, withClientOptions, withExamples } from './output.ts'
import { ID, taskIdOf } from './task-id.ts'
import { type Beside, type Explanation, explanationText, progressText, taskPage, taskTable } from './task-page.ts'
import { dimmed, plain, statusCell } from './terminal.ts'
import { printOrWatch } from './watching.ts'

/** get, explain, logs, watch, list. */
export function taskCommands(): Command[] {
  const get = withClientOptions(new Command('get'))
    .description('show a task: state, payload, result, attempts with their errors, last log lines, and why it waits')
    .argument('<id>', ID)
    .action(async (text: string, options: ClientOptions) => {
      const id = await taskIdOf(options.server, text)
      const task = await readTask(options.server, id)
      const explains = !options.json && task.status !== 'success'
      const explanation = explains ? await explain(options.server, id) : null
      const beside = options.json ? null : await readBeside(options.server, id)
      show(task, options, () => taskPage(task, explanation, beside))
    })
  const why = withClientOptions(new Command('explain'))
    .description('say why a task is not running, and what holds it back')
    .argument('<id>', ID)
    .action(async (text: string, options: ClientOptions) => {
      const id = await taskIdOf(options.server, text)
      const explanation = await explain(options.server, id)
      const attempts = options.json ? null : await unlessMissing(readAttempts(options.server, id))
      show(explanation, options, () => [explanationText(explanation), ...attemptLines(attempts)].join('\n'))
    })
  const watch = withClientOptions(new Command('watch'))
    .description('follow one task until it ends, or all status changes')
    .argument('[id]', ID)
    .option('--type <type>', 'only changes of tasks of this type')
    .option('--status <status>', 'only changes to this status')
    .action(follow)
  const list = withFilter(withClientOptions(new Command('list')))
    .description('list tasks, newest first; pending tasks in the order of their starts')
    .option('--limit <n>', 'maximum number of tasks', '50')
    .option('--watch', 'print the list again every two seconds')
    .action(async (options: FilterOptions & { limit?: string; watch?: boolean }) => {
      let more = ''
      await printOrWatch(options.watch, async () => {
        // Ages are those at each reading.
        const query = new URLSearchParams({ ...filterOf(options), limit: options.limit ?? '50' })
        const page = await call<TaskPage>(options.server, 'GET', `/tasks?${query}`)
        more = moreText(page)
        if (options.json) return JSON.stringify(page.tasks)
        const text = page.tasks.length === 0 ? dimmed('no tasks match') : taskTable(page.tasks)
        return options.watch && more !== '' ? `${text}\n${dimmed(more)}` : text
      })
      if (more !== '') warn(more)
    })
  const id = '01890a5d-ac96-774b-bcce-b302099a8057'
  return [
    withExamples(get, `xqueue get ${id}`, `xqueue get ${id} --json`),
    withExamples(why, `xqueue explain ${id}`),
    logsCommand(),
    withExamples(watch, `xqueue watch ${id}`, 'xqueue watch --type email --status failed'),
    withExamples(
      list,
      'xqueue list --status pending --type email',
      'xqueue list --tag customer:42 --limit 10',
      'xqueue list --group acme',
      'xqueue list --batch nightly --status failed',
      'xqueue list --status failed --created-after 2h --error "timed out"',
    ),
  ]
}

interface TaskPage {
  tasks: TaskJson[]
  next_cursor: string | null
}

/** Their number is not known: a count would read them all. */
function moreText({ tasks, next_cursor }: TaskPage): string {
  if (next_cursor === null) return ''
  return `There may be more than these ${tasks.length}: raise --limit, up to 1000, or filter them`
}

function readTask(server: Server, id: string): Promise<TaskJson> {
  return call(server, 'GET', `/tasks/${encodeURIComponent(id)}`)
}

function explain(server: Server, id: string): Promise<Explanation> {
  return call(server, 'GET', `/tasks/${encodeURIComponent(id)}/explain`)
}

function readAttempts(server: Server, id: string): Promise<Attempts> {
  return call(server, 'GET', `/tasks/${encodeURIComponent(id)}/attempts`)
}

async function readBeside(server: Server, id: string): Promise<Beside> {
  const [attempts, log] = await Promise.all([
    unlessMissing(readAttempts(server, id)),
    unlessMissing(readLog(server, id)),
  ])
  return { attempts, log }
}

/** Null where the server is of a version that has no such path, or the task has just been removed. */
async function unlessMissing<T>(reading: Promise<T>): Promise<T | null> {
  try {
    return await reading
  } catch (error) {
    if (error instanceof XQueueError && error.code === 'not_found') return null
    throw error
  }
}

/** Resolves with the task once its status is final, and shows it on a terminal until then. */
export async function waitForEnd(server: Server, id: string): Promise<TaskJson> {
  const stop = new AbortController()
  const shown = process.stderr.isTTY ? showChanges(server, id, stop.signal) : null
  try {
    for (;;) {
      const ended = await readPatiently(() => endedWithin(server, id), { onAway: warnAway })
      if (ended) return ended
    }
  } finally {
    stop.abort()
    await shown
    if (shown) showLine('')
  }
}

async function showChanges(server: Server, id: string, signal: AbortSignal): Promise<void> {
  try {
    showState(await readTask(server, id))
    for await (const change of changesJson(server, { taskId: id }, signal)) showState(change)
  } catch {
    // Its end is reported in any case.
  }
}

/** One line about a task that is being waited for. */
function showState({ status, progress }: Pick<TaskJson, 'status' | 'progress'>): void {
  if (!isFinal(status as Status)) showLine(`${statusCell(status as Status)} ${progressText(progress) ?? ''}`)
}

function showLine(line: string): void {
  process.stderr.write(`\r\u001b[K${line}`)
}

/** Prints changes as they happen; with an id, first the current status, and until the task has ended. */
async function follow(text: string | undefined, options: FilterOptions): Promise<void> {
  const id = text === undefined ? undefined : await taskIdOf(options.server, text)
  const stop = new AbortController()
  let failure: unknown
  const showCurrent = async () => {
    const task = await readTask(options.server, id!)
    const status = task.status as Status
    print(options.json ? JSON.stringify(task) : `${task.id} ${plain(task.type)} ${statusCell(status)}`)
    if (isFinal(status)) stop.abort()
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
  for await (const change of changesJson(options.server, query, stop.signal, opened)) {
    const { timestamp, task_id, type, status, progress } = change
    const reported = progressText(progress)
    const line = `${dimmed(timestamp)} ${task_id} ${plain(type)} ${statusCell(status)}${reported ? ` ${reported}` : ''}`
    print(options.json ? JSON.stringify(change) : line)
    if (id !== undefined && isFinal(status)) return
  }
  if (failure) throw failure
}
