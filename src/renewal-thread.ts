import { parentPort, workerData } from 'node:worker_threads'
import { openEngine } from './engine/open.ts'
import { type RenewalInput, renewLeases } from './worker/renewal.ts'

/** Entry of a worker's renewal thread: opens the engine again and renews until it is stopped. */
const input = workerData as RenewalInput
const stop = new AbortController()
parentPort?.once('message', () => stop.abort())
const engine = await openEngine(input.engineUrl, { leaseMs: input.leaseMs })
await renewLeases(engine, input, stop.signal, (lost) => parentPort?.postMessage(lost))
await engine.close()
process.exit(0)
