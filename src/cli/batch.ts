import { Command } from 'commander'
import { Batch, type BatchState } from '../client/batch.ts'
import { type ClientOptions, EXIT, show, warnAway, withClientOptions, withExamples } from './output.ts'
import { facts } from './terminal.ts'

/** `xqueue batch`: the progress of the tasks that were submitted under one name. */
export function batchCommand(): Command {
  const command = withClientOptions(new Command('batch'))
    .description('show the progress of a batch')
    .argument('<name>')
    .option('--wait', 'wait until all its tasks have ended; exits with 1 unless all succeeded')
    .action(async (name: string, options: ClientOptions & { wait?: boolean }) => {
      const batch = new Batch(options.server, name)
      const state = options.wait ? await batch.ended({ onProgress: told, onAway: warnAway }) : await batch.state()
      if (options.wait && process.stderr.isTTY) process.stderr.write('\n')
      show(state, options, (fields) => facts({ ...fields, progress: `${fields.progress} %` }))
      if (options.wait && hasFailures(state)) process.exitCode = EXIT.failed
    })
  return withExamples(
    command,
    'xqueue batch nightly',
    'xqueue submit --file nightly.ndjson --together --batch nightly && xqueue batch nightly --wait',
    'xqueue list --batch nightly --status failed',
  )
}

function told({ batch, progress, total }: BatchState): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${batch}: ${progress} % of ${total} tasks have ended `)
}

/** The final status of deleted tasks is unknown. */
function hasFailures({ success, removed, total }: BatchState): boolean {
  return success + removed < total
}
