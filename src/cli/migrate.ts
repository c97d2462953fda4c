import { Command } from 'commander'
import { ENGINE_DEFAULTS } from '../engine/engine.ts'
import { migrate, type Progress } from '../engine/migration.ts'
import { openEngine } from '../engine/open.ts'
import { print, withExamples } from './output.ts'

/** Nothing of either is forgotten while it goes on. */
const KEEP_ALL = {
  ...ENGINE_DEFAULTS,
  retention: { ageMs: 366 * 86_400_000, countMax: 1e9 },
  eventsMax: 1e9,
  eventsAgeMs: 366 * 86_400_000,
  eventsBytesMax: 1e15,
}

/** `xqueue migrate`: everything from one engine to another. */
export function migrateCommand(): Command {
  const command = new Command('migrate')
    .description('move every task from one engine to another; started again, it goes on where it was cut off')
    .argument('<from>', 'URL of the engine that has the tasks; its types are paused, and stay so')
    .argument('<to>', 'URL of the engine that gets them')
    .option('--json', 'print each step as a line of JSON')
    .action(async (from: string, to: string, { json }: { json?: boolean }) => {
      const [source, target] = [await openEngine(from, KEEP_ALL), await openEngine(to, KEEP_ALL)]
      try {
        await migrate(source, target, Date.now, (progress) => print(json ? JSON.stringify(progress) : told(progress)))
        if (!json) print('done: all of it is there; stop the servers and workers here, and start them there')
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

function told({ types, running, moved, copied, renamed, withoutResults, left }: Progress): string {
  if (types !== undefined) return `${types} types are there, and paused here`
  if (running !== undefined) return `waiting for ${running} running tasks to end`
  if (copied !== undefined) return `${copied} finished tasks copied`
  if (renamed) return `${renamed.from} is ${renamed.to} there`
  if (withoutResults) return `${withoutResults} gets no results of what it has waited for`
  if (left) return `${left} stays: it waits for a task that has ended here without success; retry that, or cancel this`
  return `${moved} tasks moved`
}
