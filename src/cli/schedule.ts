import { Command } from 'commander'
import { call } from '../client/call.ts'
import { XQueueError } from '../task/errors.ts'
import type { ScheduleJson } from '../task/schedule-input.ts'
import { type ClientOptions, facts, parseJson, show, table, withClientOptions, withExamples } from './output.ts'

interface AddOptions extends ClientOptions {
  cron?: string
  timezone?: string
  every?: string
  catchUp?: string
  overlap?: string
  priority?: string
  maxRetry?: string
  group?: string
  paused?: boolean
}

/** `xqueue schedule`: tasks that are made again and again. */
export function scheduleCommand(): Command {
  const schedule = new Command('schedule').description('tasks that are made again and again, by a cron or an interval')
  const ofServer = (name: string, description: string) => withClientOptions(new Command(name)).description(description)
  const ofOne = (
    name: string,
    description: string,
    act: (id: string, options: ClientOptions) => Promise<ScheduleJson>,
    told: (schedule: ScheduleJson) => string,
  ) =>
    ofServer(name, description)
      .argument('<id>')
      .action(async (id: string, options: ClientOptions) => show(await act(id, options), options, told))
  const set = (paused: boolean) => (id: string, options: ClientOptions) => ask(options, 'PATCH', id, { paused })
  const add = ofServer('add', 'add a schedule; the same again changes nothing')
    .argument('<id>', 'a name of your choice')
    .argument('<type>', 'task type')
    .argument('[payload]', 'JSON', '{}')
    .option('--cron <fields>', 'minute, hour, day of the month, month, day of the week')
    .option('--timezone <name>', 'IANA name, with --cron; default UTC')
    .option('--every <duration>', 'instead of --cron, as in 15m')
    .option('--catch-up <which>', 'ticks that nobody was there for: none, one or all; default one')
    .option('--overlap <how>', 'allow, or skip while the last task has not ended; default allow')
    .option('--priority <0-9>', 'higher runs first')
    .option('--max-retry <n>', 'retries after the first attempt')
    .option('--group <group>', 'tenant, account or customer')
    .option('--paused', 'begin without ticks, until it is resumed')
    .action(addSchedule)
  const list = ofServer('list', 'list the schedules and when they tick next').action(async (options: ClientOptions) => {
    const answer = await call<{ schedules: ScheduleJson[] }>(options.server, 'GET', '/schedules')
    show(answer, options, ({ schedules }) => table(HEAD, schedules.map(rowOf)))
  })
  const next = ({ id, next_at }: ScheduleJson) => `${id} ticks next at ${next_at ?? 'no time'}`
  for (const command of [
    withExamples(
      add,
      'xqueue schedule add report example \'{"duration": 2}\' --cron "30 2 * * MON-FRI" --timezone Europe/Berlin',
      'xqueue schedule add sync example \'{"duration": 2}\' --every 15m --overlap skip',
    ),
    withExamples(list, 'xqueue schedule list --json'),
    ofOne('show', 'show one, and its next five times', (id, options) => ask(options, 'GET', id), facts),
    ofOne('pause', 'make no more tasks; what is missed meanwhile is not caught up on', set(true), stateOf),
    ofOne('resume', 'go on from now', set(false), next),
    ofOne(
      'remove',
      'remove one; its tasks stay',
      (id, options) => ask(options, 'DELETE', id),
      ({ id }) => `${id} removed`,
    ),
    ofOne(
      'run',
      'make its task now, out of turn, and print its id',
      (id, options) => ask(options, 'POST', id, undefined, '/run'),
      ({ last_task_id }) => String(last_task_id),
    ),
  ]) {
    schedule.addCommand(command.exitOverride())
  }
  return schedule
}

const HEAD = ['id', 'type', 'when', 'state', 'next', 'last', 'last task'] as const

function rowOf(schedule: ScheduleJson): unknown[] {
  const { id, type, cron, timezone, every, next_at, last_at, last_task_id } = schedule
  const when = cron === null ? `every ${every} s` : `${cron} ${timezone}`
  return [id, type, when, stateOf(schedule), next_at, last_at, last_task_id]
}

function stateOf({ paused, next_at }: ScheduleJson): string {
  if (paused) return 'paused'
  return next_at === null ? 'over' : 'on'
}

async function addSchedule(id: string, type: string, text: string, options: AddOptions): Promise<void> {
  const { cron, timezone, every, catchUp, overlap, priority, maxRetry, group, paused } = options
  const payload = parseJson(text, 'the payload')
  const body = { id, type, payload, cron, timezone, every, catch_up: catchUp, overlap, group, paused }
  // What is undefined is left out by JSON itself.
  const numbers = { priority: numberOf('--priority', priority), max_retry: numberOf('--max-retry', maxRetry) }
  const added = await call<ScheduleJson>(options.server, 'POST', '/schedules', { ...body, ...numbers })
  show(added, options, ({ upcoming }) => ['the next times:', ...upcoming].join('\n'))
}

function ask({ server }: ClientOptions, method: string, id: string, body?: object, path = ''): Promise<ScheduleJson> {
  return call(server, method, `/schedules/${encodeURIComponent(id)}${path}`, body)
}

function numberOf(flag: string, value: string | undefined): number | undefined {
  if (value === undefined) return undefined
  if (/^\d+$/.test(value)) return Number(value)
  throw new XQueueError('invalid_config', `${flag} ${value} must be a whole number`)
}
