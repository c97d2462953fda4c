import { parentPort, workerData } from 'node:worker_threads'
import { type RenewalInput, renewLeases } from './worker/renewal.ts'

/** Entry of a worker's renewal thread: opens the store or the server again and renews until it is stopped. */
const input = workerData as RenewalInput
const stop = new AbortController()
parentPort?.once('message', () => stop.abort())
const { source, close } = input.key === undefined ? await openStore() : await openServer(input.key)
await renewLeases(source, input, stop.signal, (lost) => parentPort?.postMessage(lost))
await close()
process.exit(0)

async function openStore() {
  const { openQueue } = await import('./queue/open.ts')
  const source = await openQueue(input.engineUrl, { leaseMs: input.leaseMs })
  return { source, close: () => source.close() }
}

async function openServer(key: string | null) {
  const { RemoteSource } = await import('./remote/remote-source.ts')
  return { source: new RemoteSource({ url: input.engineUrl, key }), close: async () => undefined }
}
