import { Command } from 'commander'
import { call } from '../client/call.ts'
import type { readStats } from '../server/system.ts'
import type { typeJson } from '../server/type-json.ts'
import { type ClientOptions, show, withClientOptions, withExamples } from './output.ts'
import { dimmed, durationText, table, timeText } from './terminal.ts'
import { printOrWatch } from './watching.ts'

interface Workers {
  workers: { id: string; running: number; concurrency: number; types: string[]; last_seen: string }[]
}

type Stats = Awaited<ReturnType<typeof readStats>>
type TypeJson = ReturnType<typeof typeJson>

/** stats, types, workers. */
export function systemCommands(): Command[] {
  const stats = withClientOptions(new Command('stats'))
    .description('show counts and rates over all processes, and each type')
    .option('--watch', 'print them again every two seconds')
    .action((options: ClientOptions & { watch?: boolean }) =>
      printOrWatch(options.watch, async () => {
        const answer = await call<Stats>(options.server, 'GET', '/stats')
        return options.json ? JSON.stringify(answer) : statsText(answer, await typesOf(options))
      }),
    )
  const types = withClientOptions(new Command('types'))
    .description('list the task types with their limits and figures')
    .option('--names', 'print the names only, one per line')
    .action(async (options: ClientOptions & { names?: boolean }) => {
      const all = await typesOf(options)
      show(all, options, () => (options.names ? all.map(({ type }) => type).join('\n') : typeTable(all)))
    })
  const workers = withClientOptions(new Command('workers'))
    .description('list the live workers over all processes')
    .action(async (options: ClientOptions) => {
      const answer = await call<Workers>(options.server, 'GET', '/workers')
      const rows = answer.workers.map((worker) => [
        worker.id,
        `${worker.running}/${worker.concurrency}`,
        worker.types.join(','),
        timeText(worker.last_seen),
      ])
      show(answer, options, () => table(['ID', 'RUNNING', 'TYPES', 'LAST SEEN'], rows))
    })
  return [
    withExamples(stats, 'xqueue stats --json'),
    withExamples(types, 'xqueue types'),
    withExamples(workers, 'xqueue workers'),
  ]
}

async function typesOf({ server }: ClientOptions): Promise<TypeJson[]> {
  return (await call<{ types: TypeJson[] }>(server, 'GET', '/types')).types
}

function statsText(stats: Stats, types: readonly TypeJson[]): string {
  const waiting = [
    ...(stats.delayed_tasks > 0 ? [`${stats.delayed_tasks} delayed`] : []),
    ...(stats.dependent_tasks > 0 ? [`${stats.dependent_tasks} wait for others`] : []),
  ]
  const rows = [
    ['pending', stats.pending_tasks, waiting.join(', ')],
    ['processing', stats.processing_tasks, `${stats.active_workers} of ${stats.total_workers} workers are busy`],
    ['success', stats.success_tasks, ''],
    ['failed', stats.failed_tasks, ''],
    ['canceled', stats.canceled_tasks, ''],
    ['timeout', stats.timeout_tasks, ''],
  ]
  const counts = rows.map(([name, count, note]) => {
    const cells = `${String(name).padEnd(10)} ${String(count).padStart(9)}`
    return note === '' ? cells : `${cells}  ${dimmed(String(note))}`
  })
  return types.length === 0 ? counts.join('\n') : `${counts.join('\n')}\n\n${typeTable(types)}`
}

function typeTable(types: readonly TypeJson[]): string {
  const seconds = (figure: { p95: number } | null) => (figure ? durationText(figure.p95 * 1_000) : null)
  const rows = types.map(
    ({ type, pending, processing, max_concurrency, rate, workers, throughput, wait, run, paused, held_until }) => [
      type,
      pending,
      max_concurrency === null ? processing : `${processing}/${max_concurrency}`,
      rate && `${rate.max}/${durationText(rate.per * 1_000)}`,
      workers,
      `${Number(throughput.toFixed(1))}/s`,
      seconds(wait),
      seconds(run),
      paused ? 'paused' : held_until ? `held (ends ${timeText(held_until)})` : workers === 0 ? 'no worker' : 'on',
    ],
  )
  return table(['TYPE', 'PENDING', 'RUNNING', 'RATE', 'WORKERS', 'ENDED', 'WAIT P95', 'RUN P95', 'STATE'], rows)
}
