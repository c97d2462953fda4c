import { Command } from 'commander'
import type { Progress } from '../queue/migration.ts'
import { print, withExamples } from './output.ts'

/** Neither engine deletes tasks or events during a migration. */
const KEEP_ALL = {
  retention: { ageMs: 366 * 86_400_000, countMax: 1e9 },
  eventsMax: 1e9,
  eventsAgeMs: 366 * 86_400_000,
  eventsBytesMax: 1e15,
}

/** `xqueue migrate`: moves waiting tasks, limits, types and schedules from one engine to another. */
export function migrateCommand(): Command {
  const command = new Command('migrate')
    .description(
      'move waiting tasks, limits, types and schedules from one engine to another, and copy finished tasks whose ids ' +
        'the target can keep; run it again to resume after an interruption',
    )
    .argument('<from>', 'URL of the source engine; its types and schedules are paused and stay paused')
    .argument('<to>', 'URL of the target engine')
    .option('--json', 'print each step as a line of JSON')
    .action(async (from: string, to: string, { json }: { json?: boolean }) => {
      // Loaded here, so that commands that only call a server start fast.
      const [{ migrate }, { openQueue }] = await Promise.all([
        import('../queue/migration.ts'),
        import('../queue/open.ts'),
      ])
      const [source, target] = [await openQueue(from, KEEP_ALL), await openQueue(to, KEEP_ALL)]
      try {
        await migrate(source, target, Date.now, (progress) => print(json ? JSON.stringify(progress) : told(progress)))
        if (!json) print('done: stop the servers and workers of the source, and start them with the target')
      } finally {
        await Promise.all([source.close(), target.close()])
      }
    })
  return withExamples(
    command,
    'xqueue migrate sqlite:./xqueue.db redis://localhost',
    'xqueue migrate redis://localhost "kafka://broker1,broker2?state=redis://other"',
  )
}

function told(progress: Progress): string {
  const { limits, types, schedules, running, moved, copied, notCopied, renamed, withoutResults, left } = progress
  if (limits !== undefined) return `${limits} named limits exist in the target`
  if (types !== undefined) return `${types} types created in the target, and paused in the source`
  if (schedules !== undefined) return `${schedules} schedules created in the target, and paused in the source`
  if (running !== undefined) return `waiting for ${running} running tasks to end`
  if (copied !== undefined) {
    const others = notCopied ? `, ${notCopied} not: the target cannot keep their ids` : ''
    return `${copied} finished tasks copied${others}`
  }
  if (renamed) return `${renamed.from} is ${renamed.to} in the target`
  if (withoutResults) return `${withoutResults} gets no results of the tasks that it waited for`
  if (left) return `${left} stays: it waits for a task that ended without success; retry that task, or cancel this one`
  return `${moved} tasks moved`
}
