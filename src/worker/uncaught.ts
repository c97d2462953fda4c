import type { Logger } from 'pino'
import { errorOf } from '../task/thrown.ts'
import { currentAttempt } from './attempt.ts'

/**
 * Handles uncaught exceptions and rejections: one from an attempt fails that attempt, any other crashes the process.
 * Returns a function that stops this.
 */
export function catchUncaught(logger: Logger): () => void {
  const onStray = (error: unknown) => {
    const attempt = currentAttempt()
    if (!attempt) {
      logger.fatal({ err: errorOf(error) }, 'an exception outside any handler')
      process.exitCode = 1
      setImmediate(() => process.exit(1))
      return
    }
    logger.warn({ err: errorOf(error), task_id: attempt.lease.task.id }, 'a handler threw outside its promise')
    attempt.fail(error)
  }
  process.on('uncaughtException', onStray)
  process.on('unhandledRejection', onStray)
  return () => {
    process.off('uncaughtException', onStray)
    process.off('unhandledRejection', onStray)
  }
}
