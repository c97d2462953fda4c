import { openQueue } from '../../src/queue/open.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec } from '../../src/task/task.ts'

/** Submits and runs tasks until it is killed, and reports the answers on stdout: `submitted id`, `settled id`. */
const queue = await openQueue(process.argv[2]!, { leaseMs: 100 })
const worker = { id: `w${process.pid}`, host: 'h', pid: process.pid, types: ['t'], concurrency: 5, startedAt: 0 }
const limits = { maxConcurrency: 5, groupConcurrency: null, rate: null }
await queue.configureType('t', {
  handler: { ...limits, retry: RETRY_DEFAULTS, payloadSchema: null, defaults: {} },
})

const say = (lines: string[]) => new Promise((resolve) => process.stdout.write(lines.join(''), resolve))

async function submit(): Promise<void> {
  for (;;) {
    const specs = Array.from({ length: 20 }, () => completeSpec({ type: 't', queueTimeoutMs: 0 }))
    const submitted = await queue.submit(specs)
    await say(submitted.map(({ task }) => `submitted ${task.id}\n`))
  }
}

async function work(): Promise<void> {
  let outcomes: { lease: string; outcome: { kind: 'success'; result: number } }[] = []
  for (;;) {
    const { settled, leases } = await queue.turn({ worker, want: 5, outcomes, waitMs: 50 })
    await say(
      outcomes.filter((_, index) => settled[index]!.accepted).map(({ lease }) => `settled ${lease.split('.')[0]}\n`),
    )
    outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: process.pid } }))
    await queue.sweep(100)
  }
}

await Promise.all([submit(), work()])
