import { openEngine } from '../../src/engine/open.ts'

/** Sweeps without a pause until it is killed, and says on stdout that it has begun. */
const engine = await openEngine(process.argv[2]!)
await engine.sweep(10)
process.stdout.write('sweeping\n')
for (;;) {
  await engine.sweep(10)
  await new Promise(setImmediate) // For what the engine does of its own accord.
}
