import { openQueue } from '../../src/queue/open.ts'
import { completeSpec } from '../../src/task/task.ts'

/** Submits tasks, says how many, and waits to be killed: its changes are in the log. */
const queue = await openQueue(process.argv[2]!)
await queue.configureType('t', { declared: true })
const COUNT = 60
for (let n = 0; n < COUNT; n++)
  await queue.submit([completeSpec({ type: 't', payload: { n, text: 'x'.repeat(2_000) } })])
process.stdout.write(`${COUNT}\n`)
setInterval(() => undefined, 1_000)
