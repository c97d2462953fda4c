import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, it } from 'vitest'
import { completeSpec } from '../../src/task/task.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { openTestQueue } from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t', 'u'], concurrency: 9, startedAt: 0 }

it('lets only the group of a task that has ended return to the rotation', async () => {
  const file = join(temporaryFolder(), 'x.db')
  const queue = await openTestQueue(`sqlite:${file}`)
  const db = new DatabaseSync(file, { readOnly: true })
  closeAfterwards(() => db.close())
  const specs = ['t a', 't a ', 't b', 'u a'].map((text) => ({ type: text.slice(0, 1), group: text.slice(2) }))
  for (const type of ['t', 'u']) await queue.configureType(type, { declared: true, groupConcurrency: 1 })
  await queue.submit([...specs, ...specs].map(completeSpec))
  const { leases } = await queue.turn({ worker: WORKER, want: 9 })
  const states = () =>
    db
      .prepare("SELECT type || ' ' || task_group AS lane, state FROM ring ORDER BY lane")
      .all()
      .map((row) => ({ ...row }))
  expect(states()).toEqual(['t a', 't a ', 't b', 'u a'].map((lane) => ({ lane, state: 'full' })))
  const { lease } = leases.find(({ task }) => `${task.type} ${task.group}` === 't a')!
  await queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease, outcome: { kind: 'success', result: null } }] })
  expect(states().filter(({ state }) => state !== 'full')).toEqual([{ lane: 't a', state: 'ready' }])
})
