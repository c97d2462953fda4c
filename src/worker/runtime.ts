import { Worker as Thread } from 'node:worker_threads'
import type { Logger } from 'pino'
import { MACHINE_TIME, type Time } from '../task/time.ts'
import type { RenewalInput } from './renewal.ts'
import type { TaskSource } from './task-source.ts'
import { catchUncaught } from './uncaught.ts'

/** The environment of a worker: this process, or a simulation with thousands of workers. */
export interface Runtime {
  time: Time
  /** Starts the renewal of shared leases; the returned function stops it. */
  renew: (renewal: Renewal) => () => Promise<void>
  /** Fails the attempt of an uncaught exception or rejection; the returned function stops this. */
  catchUncaught: (logger: Logger) => () => void
}

export interface Renewal extends RenewalInput {
  queue: TaskSource
  logger: Logger
  /** Receives leases that are no longer held. */
  lost: (leases: string[]) => void
}

export const PROCESS: Runtime = { time: MACHINE_TIME, renew: renewInThread, catchUncaught }

/** A thread that fails at once, as while the store cannot be opened, is replaced only so often. */
const RESTART_MS = 200

/** Runs in its own thread, independent of blocking handlers. A failed thread is replaced. */
function renewInThread({ queue, logger, lost, ...input }: Renewal): () => Promise<void> {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  const entry = new URL(`../renewal-thread.${extension}`, import.meta.url)
  let current: Thread | undefined
  let stopped = false
  let restart: NodeJS.Timeout | undefined
  const start = () => {
    const thread = new Thread(entry, { workerData: input })
    current = thread
    thread.unref()
    thread.on('message', lost)
    thread.on('error', (error) => {
      logger.error({ err: error }, 'the renewal thread failed; starting another one')
      if (!stopped) restart = setTimeout(start, RESTART_MS).unref()
    })
    thread.once('exit', () => {
      if (current === thread) current = undefined
    })
  }
  start()
  // Waits for the thread, because it also has the store open.
  return async () => {
    stopped = true
    clearTimeout(restart)
    const thread = current
    if (!thread) return
    thread.ref()
    const ended = new Promise((resolve) => thread.once('exit', resolve))
    thread.postMessage('stop')
    await ended
  }
}
