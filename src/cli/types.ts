import { Command } from 'commander'
import { call } from '../client/call.ts'
import { XQueueError } from '../task/errors.ts'
import { type ClientOptions, facts, show, withClientOptions, withExamples } from './output.ts'

/** limit, pause, resume: what is set for a task type. */
export function typeCommands(): Command[] {
  const limit = withClientOptions(new Command('limit'))
    .description('show or set how many tasks of a type run at once, over all processes')
    .argument('<type>')
    .argument('[limit]', 'an integer of 1 or more, or "none"')
    .action(async (type: string, value: string | undefined, options: ClientOptions) => {
      if (value !== undefined && value !== 'none' && !/^\d+$/.test(value)) {
        throw new XQueueError('invalid_config', `the limit ${value} must be an integer of 1 or more, or "none"`)
      }
      const body = { task_type: type, max_concurrency: value === 'none' ? null : Number(value) }
      const answer =
        value === undefined
          ? await call<object>(options.server, 'GET', `/concurrency/${encodeURIComponent(type)}`)
          : await call<object>(options.server, 'POST', '/concurrency', body)
      show(answer, options, (fields) => facts({ ...fields }))
    })
  const set = (name: 'pause' | 'resume', description: string) =>
    withClientOptions(new Command(name))
      .description(description)
      .argument('<type>')
      .action(async (type: string, options: ClientOptions) => {
        const answer = await call<object>(options.server, 'POST', `/types/${encodeURIComponent(type)}/${name}`)
        show(answer, options, () => `${type} ${name}d`)
      })
  return [
    withExamples(limit, 'xqueue limit email', 'xqueue limit email 10', 'xqueue limit email none'),
    withExamples(set('pause', 'start no more tasks of a type; they are accepted and wait'), 'xqueue pause email'),
    withExamples(set('resume', 'start again'), 'xqueue resume email'),
  ]
}
