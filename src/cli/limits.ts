import { Command } from 'commander'
import { call } from '../client/call.ts'
import { XQueueError } from '../task/errors.ts'
import { type Holder, holderTable, rateText, stateText } from './limit-text.ts'
import { type ClientOptions, show, withClientOptions, withExamples } from './output.ts'
import { facts, plain, table } from './terminal.ts'

interface Limit {
  name: string
  max: number | null
  rate: { max: number; per: number } | null
  paused: boolean
  held_until: string | null
  in_use: number | null
  waiting: number | null
}

interface SetOptions extends ClientOptions {
  max?: string
  rate?: string
}

/** limits: the named limits, and those of types and groups under their names. */
export function limitsCommand(): Command {
  const limits = new Command('limits').description('list and change named limits, which tasks of any type can use')
  const list = withClientOptions(new Command('list'))
    .description('list the limits that are set, and what is held or paused')
    .action(async (options: ClientOptions) => {
      const answer = await call<{ limits: Limit[] }>(options.server, 'GET', '/limits')
      show(answer, options, ({ limits: all }) => (all.length === 0 ? 'no limits are set' : limitTable(all)))
    })
  const get = withClientOptions(new Command('get'))
    .description('show a limit, the tasks that hold it, and those that wait')
    .argument('<name>', 'such as gpu, tenant/acme, type:email or group:email/acme')
    .action(async (name: string, options: ClientOptions) => {
      const answer = await call<Limit & { holders: Holder[]; waiters: string[] }>(options.server, 'GET', pathOf(name))
      show(answer, options, limitPage)
    })
  const set = withClientOptions(new Command('set'))
    .description('create a named limit, or change a limit')
    .argument('<name>', 'such as gpu; tenant/* for each key; tenant/acme for one')
    .option('--max <n>', 'units that running tasks hold at once: an integer of 1 or more, or "none"')
    .option('--rate <max/per>', 'units that start in any window, such as 90000/1m, or "none"')
    .action(setLimit)
  const hold = withClientOptions(new Command('hold'))
    .description('start no task that uses a limit until a time has passed')
    .argument('<name>')
    .argument('<time>', 'such as 20s or 5m, up to 24h; 0 ends the hold')
    .action(async (name: string, time: string, options: ClientOptions) => {
      const answer = await call<Limit>(options.server, 'POST', `${pathOf(name)}/hold`, { for: time })
      show(answer, options, limitFacts)
    })
  const verb = (name: 'pause' | 'resume', description: string) =>
    withClientOptions(new Command(name))
      .description(description)
      .argument('<name>')
      .action(async (limit: string, options: ClientOptions) => {
        show(await call<Limit>(options.server, 'POST', `${pathOf(limit)}/${name}`), options, limitFacts)
      })
  const remove = withClientOptions(new Command('remove'))
    .description('remove a limit that no unfinished task uses')
    .argument('<name>')
    .action(async (name: string, options: ClientOptions) => {
      show(await call<Limit>(options.server, 'DELETE', pathOf(name)), options, () => plain(`${name} removed`))
    })
  const commands = [
    withExamples(list, 'xqueue limits list'),
    withExamples(set, 'xqueue limits set gpu --max 2', "xqueue limits set 'tenant/*' --max 2 --rate 100/1m"),
    withExamples(get, 'xqueue limits get gpu'),
    withExamples(hold, 'xqueue limits hold gpu 20s'),
    withExamples(verb('pause', 'start no task that uses a limit until it is resumed'), 'xqueue limits pause gpu'),
    withExamples(verb('resume', 'end the pause and the hold of a limit'), 'xqueue limits resume gpu'),
    withExamples(remove, 'xqueue limits remove gpu'),
  ]
  for (const command of commands) limits.addCommand(command)
  return limits
}

async function setLimit(name: string, options: SetOptions): Promise<void> {
  const { max, rate } = options
  if (max === undefined && rate === undefined) {
    throw new XQueueError('invalid_config', 'nothing to set: give --max or --rate')
  }
  const body = {
    ...(max !== undefined && { max: maxOf(max) }),
    ...(rate !== undefined && { rate: rateOf(rate) }),
  }
  show(await call<Limit>(options.server, 'PUT', pathOf(name), body), options, limitFacts)
}

function maxOf(value: string): number | null {
  if (value === 'none') return null
  if (/^\d+$/.test(value)) return Number(value)
  throw new XQueueError('invalid_config', `--max ${value} must be an integer of 1 or more, or "none"`)
}

function rateOf(value: string): { max: number; per: string } | null {
  if (value === 'none') return null
  const [, max, per] = /^(\d+)\/(.+)$/.exec(value) ?? []
  if (max !== undefined && per !== undefined) return { max: Number(max), per }
  throw new XQueueError('invalid_config', `--rate ${value} must be units/time, such as 90000/1m, or "none"`)
}

function pathOf(name: string): string {
  return `/limits/${encodeURIComponent(name)}`
}

function limitFacts({ name, max, rate, in_use, waiting, ...state }: Limit): string {
  return facts({
    name,
    'in use': in_use === null ? null : `${in_use}${max === null ? ', no limit' : ` of ${max}`}`,
    ...(in_use === null ? { max } : {}),
    rate: rate === null ? 'no limit' : rateText(rate),
    waiting,
    state: stateText(state),
  })
}

function limitTable(limits: readonly Limit[]): string {
  const rows = limits.map(({ name, in_use, max, rate, waiting, ...state }) => {
    return [
      name,
      in_use ?? '',
      max ?? 'none',
      rate === null ? '' : rateText(rate),
      waiting ?? '',
      stateText(state, true),
    ]
  })
  return table(['NAME', 'IN USE', 'MAX', 'RATE', 'WAITING', 'STATE'], rows)
}

function limitPage({ holders, waiters, ...limit }: Limit & { holders: Holder[]; waiters: string[] }): string {
  const held = holders.length === 0 ? [] : [holderTable(holders, true)]
  const rows = waiters.map((id) => [id])
  return [limitFacts(limit), ...held, ...(rows.length === 0 ? [] : [table(['WAITING TASK'], rows)])].join('\n\n')
}
