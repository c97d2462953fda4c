import { Command } from 'commander'
import { call } from '../client/call.ts'
import { XQueueError } from '../task/errors.ts'
import type { ScheduleJson } from '../task/schedule-input.ts'
import { type ClientOptions, parseJson, show, withClientOptions, withExamples } from './output.ts'
import { useOf } from './submit.ts'
import { dimmed, durationText, facts, table, timeBoth, timeText } from './terminal.ts'

interface AddOptions extends ClientOptions {
  cron?: string
  timezone?: string
  every?: string
  catchUp?: string
  overlap?: string
  priority?: string
  maxRetry?: string
  group?: string
  uses?: string[]
  paused?: boolean
}

/** `xqueue schedule`: recurring tasks. */
export function scheduleCommand(): Command {
  const schedule = new Command('schedule').description('manage recurring tasks, by a cron expression or an interval')
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
  const add = ofServer('add', 'add a schedule; adding an equal one changes nothing')
    .argument('<id>', 'name of the schedule')
    .argument('<type>', 'task type')
    .argument('[payload]', 'JSON', '{}')
    .option('--cron <fields>', 'cron expression: minute, hour, day of month, month, day of week')
    .option('--timezone <name>', 'IANA time zone for --cron (default: UTC)')
    .option('--every <duration>', 'interval instead of --cron, such as 15m')
    .option('--catch-up <which>', 'handling of missed ticks: none, one or all (default: one)')
    .option('--overlap <how>', 'allow, or skip while the previous task has not ended (default: allow)')
    .option('--priority <0-9>', '0 to 9; tasks with a higher priority run first')
    .option('--max-retry <n>', 'retries after the first attempt')
    .option('--group <group>', 'group of the task: a tenant, account or customer')
    .option('--uses <limit=units...>', 'units of named limits that the task uses while it runs, such as gpu=1')
    .option('--paused', 'add it paused')
    .action(addSchedule)
  const list = ofServer('list', 'list the schedules with their next ticks').action(async (options: ClientOptions) => {
    const answer = await call<{ schedules: ScheduleJson[] }>(options.server, 'GET', '/schedules')
    show(answer, options, ({ schedules }) =>
      schedules.length === 0
        ? dimmed('no schedules: add one with `xqueue schedule add`')
        : table(HEAD, schedules.map(rowOf)),
    )
  })
  const next = ({ id, next_at }: ScheduleJson) => `${id}: next tick ${next_at ? timeBoth(next_at) : 'none'}`
  for (const command of [
    withExamples(
      add,
      'xqueue schedule add report example \'{"duration": 2}\' --cron "30 2 * * MON-FRI" --timezone Europe/Berlin',
      'xqueue schedule add sync example \'{"duration": 2}\' --every 15m --overlap skip',
    ),
    withExamples(list, 'xqueue schedule list --json'),
    ofOne('show', 'show a schedule with its next five ticks', (id, options) => ask(options, 'GET', id), facts),
    ofOne('pause', 'pause a schedule; ticks during the pause create no tasks', set(true), stateOf),
    ofOne('resume', 'resume a schedule', set(false), next),
    ofOne(
      'remove',
      'remove a schedule; its tasks stay',
      (id, options) => ask(options, 'DELETE', id),
      ({ id }) => `${id} removed`,
    ),
    ofOne(
      'run',
      'create the task of a schedule now, and print its id',
      (id, options) => ask(options, 'POST', id, undefined, '/run'),
      ({ last_task_id }) => String(last_task_id),
    ),
  ]) {
    schedule.addCommand(command)
  }
  return schedule
}

const HEAD = ['ID', 'TYPE', 'WHEN', 'STATE', 'NEXT', 'LAST', 'LAST TASK'] as const

function rowOf(schedule: ScheduleJson): unknown[] {
  const { id, type, cron, timezone, every, next_at, last_at, last_task_id } = schedule
  const when = cron === null ? `every ${durationText(every! * 1_000)}` : `${cron} ${timezone}`
  return [id, type, when, stateOf(schedule), timeText(next_at), timeText(last_at), last_task_id]
}

function stateOf({ paused, next_at }: ScheduleJson): string {
  if (paused) return 'paused'
  return next_at === null ? 'over' : 'on'
}

async function addSchedule(id: string, type: string, text: string, options: AddOptions): Promise<void> {
  const { cron, timezone, every, catchUp, overlap, priority, maxRetry, group, uses: used, paused } = options
  const payload = parseJson(text, 'the payload')
  const uses = used && Object.fromEntries(used.map(useOf))
  const body = { id, type, payload, cron, timezone, every, catch_up: catchUp, overlap, group, uses, paused }
  // JSON omits undefined fields.
  const numbers = { priority: numberOf('--priority', priority), max_retry: numberOf('--max-retry', maxRetry) }
  const added = await call<ScheduleJson>(options.server, 'POST', '/schedules', { ...body, ...numbers })
  show(added, options, ({ upcoming }) => ['next ticks:', ...upcoming.map((time) => timeBoth(time))].join('\n'))
}

function ask({ server }: ClientOptions, method: string, id: string, body?: object, path = ''): Promise<ScheduleJson> {
  return call(server, method, `/schedules/${encodeURIComponent(id)}${path}`, body)
}

function numberOf(flag: string, value: string | undefined): number | undefined {
  if (value === undefined) return undefined
  if (/^\d+$/.test(value)) return Number(value)
  throw new XQueueError('invalid_config', `${flag} ${value} must be a whole number`)
}
