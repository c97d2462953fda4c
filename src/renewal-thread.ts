import { parentPort, workerData } from 'node:worker_threads'
import { type RenewalInput, renewLeases } from './worker/renewal.ts'
import type { TaskSource } from './worker/task-source.ts'

/** With leases that are shorter than this, the first renewal must not wait for a connection. */
const SHORT_LEASE_MS = 10_000

/**
 * Entry of a worker's renewal thread: renews until it is stopped. It opens the store or the server again when the first
 * lease is to be renewed, so an idle worker, and one whose tasks are short, has one connection less.
 */
const input = workerData as RenewalInput
const stop = new AbortController()
parentPort?.once('message', () => stop.abort())
const { openQueue } = await import('./queue/open.ts')
let opened = input.leaseMs < SHORT_LEASE_MS ? open() : undefined
await opened
const turn: TaskSource['turn'] = async (request) => {
  opened ??= open()
  const { source } = await opened.catch((error: unknown) => {
    opened = undefined
    throw error
  })
  return source.turn(request)
}
await renewLeases({ turn }, input, stop.signal, (lost) => parentPort?.postMessage(lost))
await opened?.then(({ close }) => close())
process.exit(0)

function open(): Promise<{ source: Pick<TaskSource, 'turn'>; close: () => Promise<void> }> {
  return input.key === undefined ? openStore() : openServer(input.key)
}

async function openStore() {
  const source = await openQueue(input.engineUrl, { leaseMs: input.leaseMs })
  return { source, close: () => source.close() }
}

async function openServer(key: string | null) {
  const { RemoteSource } = await import('./remote/remote-source.ts')
  return { source: new RemoteSource({ url: input.engineUrl, key }), close: async () => undefined }
}
