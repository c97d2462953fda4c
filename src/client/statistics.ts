import type { Status } from '../task/status.ts'
import { answerOf } from './answer.ts'

/** Figures over all processes. */
export interface Stats {
  /** Stored tasks by status. */
  tasks: Record<Status, number>
  /** Pending tasks with a start time in the future. */
  delayedTasks: number
  /** Pending tasks that wait for other tasks. */
  dependentTasks: number
  /** Pending tasks that more workers could start. */
  readyTasks: number
  totalWorkers: number
  /** Workers with running tasks. */
  activeWorkers: number
  /** Ended tasks per second, over the last minute. */
  throughput: number
}

export interface WorkerInfo {
  id: string
  /** Null for workers over HTTP, as `pid`. */
  host: string | null
  pid: number | null
  types: string[]
  concurrency: number
  /** Tasks that it runs now. */
  running: number
  startedAt: Date
  lastSeen: Date
}

type StatsAnswer = Record<`${Status}Tasks`, number> & Omit<Stats, 'tasks'>

export function statsOf(json: object): Stats {
  const answer = answerOf<StatsAnswer>(json)
  return {
    tasks: {
      pending: answer.pendingTasks,
      processing: answer.processingTasks,
      success: answer.successTasks,
      failed: answer.failedTasks,
      canceled: answer.canceledTasks,
      timeout: answer.timeoutTasks,
    },
    delayedTasks: answer.delayedTasks,
    dependentTasks: answer.dependentTasks,
    readyTasks: answer.readyTasks,
    totalWorkers: answer.totalWorkers,
    activeWorkers: answer.activeWorkers,
    throughput: answer.throughput,
  }
}

export function workerOf(json: object): WorkerInfo {
  return answerOf(json, ['startedAt', 'lastSeen'])
}
