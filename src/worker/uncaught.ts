import type { Logger } from 'pino'
import { errorOf } from '../task/thrown.ts'
import { currentAttempt } from './attempt.ts'

/** Workers of this process, each with a listener. */
let workers = 0

/**
 * Handles uncaught exceptions and rejections: one from an attempt fails that attempt, any other crashes the process.
 * Returns a function that stops this.
 */
export function catchUncaught(logger: Logger): () => void {
  const onStray = (error: unknown) => {
    const attempt = currentAttempt()
    if (!attempt) {
      // In a program that embeds XQueue and has listeners of its own, these decide.
      if (process.listenerCount('uncaughtException') > workers) return
      logger.fatal({ err: errorOf(error) }, 'an exception outside any handler')
      process.exitCode = 1
      setImmediate(() => process.exit(1))
      return
    }
    logger.warn({ err: errorOf(error), task_id: attempt.lease.task.id }, 'a handler threw outside its promise')
    attempt.fail(error)
  }
  workers += 1
  process.on('uncaughtException', onStray)
  process.on('unhandledRejection', onStray)
  return () => {
    workers -= 1
    process.off('uncaughtException', onStray)
    process.off('unhandledRejection', onStray)
  }
}
