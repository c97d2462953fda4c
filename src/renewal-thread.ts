import { parentPort, workerData } from 'node:worker_threads'
import { openQueue } from './queue/open.ts'
import { type RenewalInput, renewLeases } from './worker/renewal.ts'

/** Entry of a worker's renewal thread: opens the store again and renews until it is stopped. */
const input = workerData as RenewalInput
const stop = new AbortController()
parentPort?.once('message', () => stop.abort())
const queue = await openQueue(input.engineUrl, { leaseMs: input.leaseMs })
await renewLeases(queue, input, stop.signal, (lost) => parentPort?.postMessage(lost))
await queue.close()
process.exit(0)
