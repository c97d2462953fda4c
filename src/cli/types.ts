import { Command } from 'commander'
import { call } from '../client/call.ts'
import { XQueueError } from '../task/errors.ts'
import { type ClientOptions, facts, show, withClientOptions, withExamples } from './output.ts'

interface LimitOptions extends ClientOptions {
  groupLimit?: string
  rate?: string
}

/** limit, pause, resume: what is set for a task type. */
export function typeCommands(): Command[] {
  const limit = withClientOptions(new Command('limit'))
    .description('show or set how many tasks of a type run at once and how often one starts, over all processes')
    .argument('<type>')
    .argument('[limit]', 'of the type: an integer of 1 or more, or "none"')
    .option('--group-limit <n>', 'of each group of the type: an integer of 1 or more, or "none"')
    .option('--rate <max/per>', 'starts in any window of time, as in 100/1m, or "none"')
    .action(setLimits)
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
      limit,
      'xqueue limit email',
      'xqueue limit email 10 --group-limit 2',
      'xqueue limit email --rate 100/1m',
      'xqueue limit email none --group-limit none --rate none',
    ),
    withExamples(set('pause', 'start no more tasks of a type; they are accepted and wait'), 'xqueue pause email'),
    withExamples(set('resume', 'start again'), 'xqueue resume email'),
  ]
}

/** Sets what is given and shows it; with nothing given, shows how the type's limits stand and who holds its permits. */
async function setLimits(type: string, value: string | undefined, options: LimitOptions): Promise<void> {
  const { server, groupLimit, rate } = options
  const limits = {
    ...(value === undefined ? {} : { max_concurrency: limitOf('the limit', value) }),
    ...(groupLimit === undefined ? {} : { group_concurrency: limitOf('--group-limit', groupLimit) }),
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
  if (Object.keys(limits).length === 0 && !window) answer = await call(server, 'GET', `/concurrency/${path}`)
  show(answer, options, (fields) => facts({ ...fields }))
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
  throw new XQueueError('invalid_config', `--rate ${value} must be starts/time, as in 100/1m, or "none"`)
}
