/** The waiting work: part of the port in store.ts. */

/** The waiting work in the store's own terms. */
export interface StreamInfo {
  /** Unfinished tasks. */
  length: number
  groups: number
  consumers: { name: string; pending: number; idle: number }[]
  /**
   * Streams, with partitions where the store has them: the first and the next offset, and the number of unfinished
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
