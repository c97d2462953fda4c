import { openQueue } from '../../src/queue/open.ts'

/** Claims a task of a type that uses a limit, says so, and holds it until it is killed. */
const queue = await openQueue(process.argv[2]!, { leaseMs: 1_000 })
const worker = { id: 'killed', host: 'h', pid: process.pid, types: ['t'], concurrency: 9, startedAt: 0 }
const { leases } = await queue.turn({ worker, want: 9, waitMs: 10_000 })
process.stdout.write(`${leases.length}\n`)
setInterval(() => undefined, 1_000)
