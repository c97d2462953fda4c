import { Command } from 'commander'
import { XQueueError } from '../task/errors.ts'
import { isFinal, type Status } from '../task/status.ts'
import { call } from './call.ts'
import { type ClientOptions, EXIT, facts, print, show, table, withClientOptions } from './output.ts'

/** A task as the server answers it. */
export interface TaskAnswer {
  id: string
  type: string
  status: Status
  attempts: number
  created_at: string
  error: string | null
}

interface FilterOptions extends ClientOptions {
  status?: string
  type?: string
  tag?: string
  limit?: string
  all?: boolean
}

const POLL_MS = 100

/** get, watch, list, cancel, retry. */
export function taskCommands(): Command[] {
  const get = withClientOptions(new Command('get'))
    .description('show one task')
    .argument('<id>')
    .action(async (id: string, options: ClientOptions) => {
      const task = await call<TaskAnswer>(options.server, 'GET', `/tasks/${encodeURIComponent(id)}`)
      show(task, options, (fields) => facts({ ...fields }))
    })
  const watch = withClientOptions(new Command('watch'))
    .description('follow one task to its end, or all status changes')
    .argument('[id]')
    .option('--type <type>')
    .option('--status <status>')
    .action(follow)
  const list = withFilter(withClientOptions(new Command('list')))
    .description('list tasks, newest first; pending ones in the order they will run')
    .option('--limit <n>', 'at most this many', '50')
    .action(async (options: FilterOptions) => {
      const query = new URLSearchParams({ ...filterOf(options), limit: options.limit ?? '50' })
      const { tasks } = await call<{ tasks: TaskAnswer[] }>(options.server, 'GET', `/tasks?${query}`)
      const rows = (all: TaskAnswer[]) =>
        all.map((task) => [task.id, task.type, task.status, task.attempts, task.created_at])
      show(tasks, options, (all) => table(['ID', 'TYPE', 'STATUS', 'ATTEMPTS', 'CREATED'], rows(all)))
    })
  const change = (name: 'cancel' | 'retry', description: string) =>
    withFilter(withClientOptions(new Command(name)))
      .description(description)
      .argument('[id]')
      .option('--all', 'every task that fits the filter')
      .action(async (id: string | undefined, options: FilterOptions) => {
        const filter = filterOf(options)
        if (id === undefined && Object.keys(filter).length === 0 && !options.all) {
          process.stderr.write(`xqueue: ${name} needs an id, a filter, or --all\n`)
          process.exitCode = EXIT.usage
          return
        }
        if (id === undefined) {
          const answer = await call<{ count: number }>(options.server, 'POST', `/tasks/${name}`, filter)
          show(answer, options, ({ count }) => `${count} tasks`)
          return
        }
        const [method, path] = name === 'cancel' ? ['DELETE', ''] : ['POST', '/retry']
        const task = await call<TaskAnswer>(options.server, method, `/tasks/${encodeURIComponent(id)}${path}`)
        show(task, options, ({ status }) => `${id} ${status}`)
      })
  return [
    get,
    watch,
    list,
    change('cancel', 'cancel a task, or all that fit'),
    change('retry', 'run failed, canceled or timed-out tasks again'),
  ]
}

/** Resolves with the task once its status is final. */
export async function waitForEnd(server: string, id: string): Promise<TaskAnswer> {
  for (;;) {
    const task = await call<TaskAnswer>(server, 'GET', `/tasks/${encodeURIComponent(id)}`)
    if (isFinal(task.status)) return task
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** Reads the event stream; with an id, ends with the task. */
async function follow(id: string | undefined, options: FilterOptions): Promise<void> {
  const query = new URLSearchParams({ ...(id === undefined ? {} : { task_id: id }), ...filterOf(options) })
  const stop = new AbortController()
  try {
    const url = `${options.server.replace(/\/$/, '')}/api/v1/events?${query}`
    const response = await fetch(url, { signal: stop.signal }).catch(() => null)
    if (!response?.ok || !response.body) {
      // The plain call tells what is wrong, in words.
      await call(options.server, 'GET', '/live')
      throw new XQueueError('internal', `the event stream answered ${response?.status}`)
    }
    // Read after the stream is open, so that no change falls between.
    if (id !== undefined) {
      const task = await call<TaskAnswer>(options.server, 'GET', `/tasks/${encodeURIComponent(id)}`)
      print(options.json ? JSON.stringify(task) : `${task.id} ${task.type} ${task.status}`)
      if (isFinal(task.status)) return
    }
    for await (const event of eventsOf(response.body)) {
      const { timestamp, task_id, type, status, progress } = event
      const told = progress === null ? '' : ` ${JSON.stringify(progress)}`
      print(options.json ? JSON.stringify(event) : `${timestamp} ${task_id} ${type} ${status}${told}`)
      if (id !== undefined && isFinal(status)) return
    }
  } finally {
    stop.abort() // An open stream would keep the process alive.
  }
}

type EventAnswer = Record<string, unknown> & { status: Status }

async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<EventAnswer> {
  let text = ''
  for await (const chunk of body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)) {
    text += chunk
    const lines = text.split('\n')
    text = lines.pop() ?? ''
    for (const line of lines) if (line.startsWith('data: ')) yield JSON.parse(line.slice('data: '.length))
  }
}

function withFilter(command: Command): Command {
  return command
    .option('--status <status>', 'pending, processing, success, failed, canceled or timeout')
    .option('--type <type>', 'task type')
    .option('--tag <key:value>', 'a tag')
}

function filterOf({ status, type, tag }: FilterOptions): Record<string, string> {
  return { ...(status ? { status } : {}), ...(type ? { type } : {}), ...(tag ? { tag } : {}) }
}
