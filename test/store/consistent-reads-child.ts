import { openQueue } from '../../src/queue/open.ts'
import { completeSpec } from '../../src/task/task.ts'

/** Starts and ends tasks of the type t as fast as it can, until it is killed. */
const queue = await openQueue(process.argv[2]!)
const worker = { id: 'child', host: 'h', pid: process.pid, types: ['t'], concurrency: 50, startedAt: 0 }
const submit = () => queue.submit(Array.from({ length: 50 }, () => completeSpec({ type: 't' })))
await submit()
process.stdout.write('ready')
for (let round = 1; ; round++) {
  const { leases } = await queue.turn({ worker, want: 1 + (round % 50) })
  const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } as const }))
  await queue.turn({ worker, want: 0, outcomes })
  await submit()
}
