import { Command } from 'commander'
import { call } from '../client/call.ts'
import { type ClientOptions, facts, show, table, withClientOptions, withExamples } from './output.ts'

interface Workers {
  workers: { id: string; running: number; concurrency: number; types: string[]; last_seen: string }[]
}

/** stats, workers. */
export function systemCommands(): Command[] {
  const stats = withClientOptions(new Command('stats'))
    .description('show counts and rates over all processes')
    .action(async (options: ClientOptions) => {
      show(await call<object>(options.server, 'GET', '/stats'), options, (fields) => facts({ ...fields }))
    })
  const workers = withClientOptions(new Command('workers'))
    .description('list the live workers over all processes')
    .action(async (options: ClientOptions) => {
      const answer = await call<Workers>(options.server, 'GET', '/workers')
      const rows = answer.workers.map((worker) => [
        worker.id,
        `${worker.running}/${worker.concurrency}`,
        worker.types.join(','),
        worker.last_seen,
      ])
      show(answer, options, () => table(['ID', 'RUNNING', 'TYPES', 'LAST SEEN'], rows))
    })
  return [withExamples(stats, 'xqueue stats --json'), withExamples(workers, 'xqueue workers')]
}
