import { Worker as Thread } from 'node:worker_threads'
import type { Logger } from 'pino'
import type { Engine } from '../engine/engine.ts'
import { MACHINE_TIME, type Time } from '../task/time.ts'
import type { RenewalInput } from './renewal.ts'
import { catchUncaught } from './uncaught.ts'

/** What a worker lives in: this process, or a simulation that has thousands of them in one. */
export interface Runtime {
  time: Time
  /** Starts to renew the leases on a board; ends with what it answers. */
  renew: (renewal: Renewal) => () => Promise<void>
  /** Ends the attempt that an exception or rejection came from which nobody caught; until what it answers is called. */
  catchUncaught: (logger: Logger) => () => void
}

export interface Renewal extends RenewalInput {
  engine: Engine
  logger: Logger
  /** Told of leases that are no longer held. */
  lost: (leases: string[]) => void
}

export const PROCESS: Runtime = { time: MACHINE_TIME, renew: renewInThread, catchUncaught }

/** In a thread of its own, which a handler that blocks the event loop does not hold up. One that fails is replaced. */
function renewInThread({ engine, logger, lost, ...input }: Renewal): () => Promise<void> {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  const entry = new URL(`../renewal-thread.${extension}`, import.meta.url)
  let current: Thread | undefined
  let stopped = false
  const start = () => {
    const thread = new Thread(entry, { workerData: input })
    current = thread
    thread.unref()
    thread.on('message', lost)
    thread.on('error', (error) => {
      logger.error({ err: error }, 'the renewal thread failed; starting another one')
      if (!stopped) start()
    })
    thread.once('exit', () => {
      if (current === thread) current = undefined
    })
  }
  start()
  // Waits for the end of the thread, which has the store open as well.
  return async () => {
    stopped = true
    const thread = current
    if (!thread) return
    thread.ref()
    const ended = new Promise((resolve) => thread.once('exit', resolve))
    thread.postMessage('stop')
    await ended
  }
}
