import { openQueue } from '../../src/queue/open.ts'

/** Sweeps without a pause until it is killed, and says on stdout that it has begun. */
const queue = await openQueue(process.argv[2]!)
await queue.sweep(10)
process.stdout.write('sweeping\n')
for (;;) {
  await queue.sweep(10)
  await new Promise(setImmediate) // For the work that the store does by itself.
}
