import { Command, Option } from 'commander'
import { call } from '../client/call.ts'
import { formatDuration } from '../task/duration.ts'
import { XQueueError } from '../task/errors.ts'
import { type Holder, holderTable, rateText, stateText } from './limit-text.ts'
import { type ClientOptions, show, withClientOptions, withExamples } from './output.ts'
import { facts, timeBoth } from './terminal.ts'

interface LimitOptions extends ClientOptions {
  groupLimit?: string
  groupTurns?: string
  rate?: string
}

/** declare, limit, hold, pause, resume: the settings of a task type. */
export function typeCommands(): Command[] {
  const declare = withClientOptions(new Command('declare'))
    .description('declare a task type without a worker, and set the ceilings and the retention of its tasks')
    .argument('<type>')
    .option('--max-retry <n>', 'ceiling of max_retry: 0 to 1000, or "none"')
    .option('--priority <n>', 'ceiling of priority: 0 to 9, or "none"')
    .option('--queue-timeout <time>', 'ceiling of queue_timeout, such as 10m, or "none"')
    .option('--process-timeout <time>', 'ceiling of process_timeout, such as 10m, or "none"')
    .option('--payload-bytes <n>', 'ceiling of the payload size in bytes, or "none"')
    .option(
      '--keep-success <time>',
      'how long to keep successful tasks, such as 1h; 0 deletes them at once; "none": default',
    )
    .option('--keep-failed <time>', 'how long to keep failed tasks, such as 30d')
    .option('--keep-canceled <time>', 'how long to keep canceled tasks')
    .option('--keep-timeout <time>', 'how long to keep tasks that timed out')
    .option('--undo', 'remove the declaration: the type is then known only while workers run it')
    .action(declareType)
  const set = (name: 'pause' | 'resume', description: string) =>
    withClientOptions(new Command(name))
      .description(description)
      .argument('<type>')
      .action(async (type: string, options: ClientOptions) => {
        const answer = await call<object>(options.server, 'POST', `/types/${encodeURIComponent(type)}/${name}`)
        show(answer, options, () => `${type} ${name}d`)
      })
  return [
    withExamples(
      declare,
      'xqueue declare email',
      'xqueue declare email --process-timeout 5m --max-retry 5',
      'xqueue declare email --max-retry none',
      'xqueue declare email --keep-success 1h --keep-failed 30d',
    ),
    withExamples(
      limitCommand(),
      'xqueue limit email',
      'xqueue limit email 10 --group-limit 2',
      'xqueue limit email --rate 100/1m',
      'xqueue limit email --group-turns time',
      'xqueue limit email none --group-limit none --rate none',
    ),
    withExamples(set('pause', 'start no more tasks of a type; new tasks are accepted and wait'), 'xqueue pause email'),
    withExamples(holdCommand(), 'xqueue hold email 20s', 'xqueue hold email 0'),
    withExamples(set('resume', 'start tasks of a type again: end its pause and its hold'), 'xqueue resume email'),
  ]
}

function holdCommand(): Command {
  return withClientOptions(new Command('hold'))
    .description('start no task of a type until a time has passed, because the service behind it refuses calls')
    .argument('<type>')
    .argument('<time>', 'such as 20s or 5m, up to 24h; 0 ends the hold')
    .action(async (type: string, time: string, options: ClientOptions) => {
      const path = `/limits/${encodeURIComponent(`type:${type}`)}/hold`
      const answer = await call<{ held_until: string | null }>(options.server, 'POST', path, { for: time })
      show(
        answer,
        options,
        ({ held_until: until }) => `${type} is ${until ? `held until ${timeBoth(until)}` : 'not held'}`,
      )
    })
}

function limitCommand(): Command {
  const turns = new Option('--group-turns <what>', 'what groups of the type share fairly: starts, or running time')
  turns.choices(['tasks', 'time'])
  return withClientOptions(new Command('limit'))
    .description('show or set the limits of a task type over all processes')
    .argument('<type>')
    .argument('[limit]', 'tasks of the type that run at once: an integer of 1 or more, or "none"')
    .option('--group-limit <n>', 'the same for each group of the type: an integer of 1 or more, or "none"')
    .addOption(turns)
    .option('--rate <max/per>', 'maximum number of starts in any window, such as 100/1m, or "none"')
    .action(setLimits)
}

interface Declared {
  declared: boolean
  ceilings: object
  retention: object
}

interface DeclareOptions extends ClientOptions {
  maxRetry?: string
  priority?: string
  queueTimeout?: string
  processTimeout?: string
  payloadBytes?: string
  keepSuccess?: string
  keepFailed?: string
  keepCanceled?: string
  keepTimeout?: string
  undo?: boolean
}

async function declareType(type: string, options: DeclareOptions): Promise<void> {
  const { maxRetry, priority, queueTimeout, processTimeout, payloadBytes } = options
  const time = (value: string | undefined) => (value === 'none' ? null : value)
  const ceilings = {
    ...(maxRetry === undefined ? {} : { max_retry: numberOf('--max-retry', maxRetry) }),
    ...(priority === undefined ? {} : { priority: numberOf('--priority', priority) }),
    ...(queueTimeout === undefined ? {} : { queue_timeout: time(queueTimeout) }),
    ...(processTimeout === undefined ? {} : { process_timeout: time(processTimeout) }),
    ...(payloadBytes === undefined ? {} : { payload_bytes: numberOf('--payload-bytes', payloadBytes) }),
  }
  const keep = {
    success: options.keepSuccess,
    failed: options.keepFailed,
    canceled: options.keepCanceled,
    timeout: options.keepTimeout,
  }
  const retention = Object.fromEntries(
    Object.entries(keep).flatMap(([status, value]) => (value === undefined ? [] : [[status, time(value)]])),
  )
  const body = {
    declared: !options.undo,
    ...(Object.keys(ceilings).length > 0 ? { ceilings } : {}),
    ...(Object.keys(retention).length > 0 ? { retention } : {}),
  }
  const path = `/types/${encodeURIComponent(type)}`
  const answer = await call<Declared>(options.server, 'POST', path, body)
  show(answer, options, ({ declared, ceilings, retention }) => {
    const kept = Object.entries(retention).map(([status, seconds]) => [`keep_${status}`, seconds])
    const values = Object.entries({ ...ceilings, ...Object.fromEntries(kept) }).map(([name, value]) => {
      const isTime = typeof value === 'number' && /^keep_|_timeout$/.test(name)
      return [name, isTime ? formatDuration(value * 1_000) : value]
    })
    return facts({ type, declared, ...Object.fromEntries(values) })
  })
}

function numberOf(what: string, value: string): number | null {
  if (value === 'none') return null
  if (/^\d+$/.test(value)) return Number(value)
  throw new XQueueError('invalid_config', `${what} ${value} must be an integer of 0 or more, or "none"`)
}

/** Sets and shows the given limits; without any, shows the type's limits and the holders of its permits. */
async function setLimits(type: string, value: string | undefined, options: LimitOptions): Promise<void> {
  const { server, groupLimit, groupTurns, rate } = options
  const limits = {
    ...(value === undefined ? {} : { max_concurrency: limitOf('the limit', value) }),
    ...(groupLimit === undefined ? {} : { group_concurrency: limitOf('--group-limit', groupLimit) }),
    ...(groupTurns === undefined ? {} : { group_turns: groupTurns }),
  }
  const window = rate === undefined ? null : rateOf(rate)
  const path = encodeURIComponent(type)
  let answer: object = { task_type: type }
  if (Object.keys(limits).length > 0)
    answer = await call(server, 'POST', '/concurrency', { task_type: type, ...limits })
  if (window) {
    const info = await call<{ rate: object | null }>(server, 'POST', `/types/${path}/rate`, window)
    answer = { ...answer, rate: info.rate }
  }
  const isChanged = Object.keys(limits).length > 0 || window !== null
  if (isChanged && options.json) return show(answer, options, String)
  show(await call<TypeLimit>(server, 'GET', `/concurrency/${path}`), options, limitPage)
}

/** The answer of `GET /concurrency/:type`. */
interface TypeLimit {
  task_type: string
  max_concurrency: number | null
  group_concurrency: number | null
  group_turns: 'tasks' | 'time'
  rate: { max: number; per: number } | null
  in_use: number
  waiting: number
  paused: boolean
  held_until: string | null
  holders: Holder[]
}

function limitPage(limit: TypeLimit): string {
  const { task_type, max_concurrency, group_concurrency, group_turns, rate, in_use, waiting, holders } = limit
  const page = facts({
    type: task_type,
    running: max_concurrency === null ? `${in_use}, no limit` : `${in_use} of ${max_concurrency}`,
    'per group': group_concurrency ?? 'no limit',
    'groups share': group_turns === 'time' ? 'running time' : 'starts',
    rate: rate === null ? 'no limit' : rateText(rate),
    waiting,
    state: stateText(limit),
  })
  return holders.length === 0 ? page : `${page}\n\n${holderTable(holders)}`
}

function limitOf(what: string, value: string): number | null {
  if (value === 'none') return null
  if (/^\d+$/.test(value)) return Number(value)
  throw new XQueueError('invalid_config', `${what} ${value} must be an integer of 1 or more, or "none"`)
}

function rateOf(value: string): { max: number | null; per?: string } {
  if (value === 'none') return { max: null }
  const [, max, per] = /^(\d+)\/(.+)$/.exec(value) ?? []
  if (max !== undefined && per !== undefined) return { max: Number(max), per }
  throw new XQueueError('invalid_config', `--rate ${value} must be starts/time, such as 100/1m, or "none"`)
}
