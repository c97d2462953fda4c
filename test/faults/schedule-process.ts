import { openQueue } from '../../src/queue/open.ts'

/** Sweeps without a pause until it is killed, and says on stdout that it has begun. */
const queue = await openQueue(process.argv[2]!)
await queue.sweep(10)
process.stdout.write('sweeping\n')
for (;;) {
  await queue.sweep(10)
  await new Promise(setImmediate) // For what the engine does of its own accord.
}
