import type { Status } from '../task/status.ts'

/** Statistics of tasks: part of the port in store.ts. */

export interface Stats {
  /** Kept tasks by status; `pending` includes the delayed ones, and those that wait for others. */
  counts: Record<Status, number>
  delayed: number
  dependent: number
  /** Tasks finished per second over the last minute. */
  throughput: number
  concurrencyLimits: Record<string, number>
  stream: StreamInfo
}

/** The waiting work in the engine's own terms. */
export interface StreamInfo {
  /** Unfinished tasks. */
  length: number
  groups: number
  consumers: { name: string; pending: number; idle: number }[]
  /**
   * Streams, with partitions where the engine has them: the first and the next offset, and the number of unfinished
   * records between them.
   */
  streams: { name: string; length: number; partitions?: PartitionInfo[] }[]
}

export interface PartitionInfo {
  partition: number
  begin: number
  end: number
  lag: number
}
