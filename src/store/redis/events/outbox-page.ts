import type { Database } from '../client/database.ts'

/** The changes of one step. */
export interface OutboxEntry {
  /** The number of its last event. */
  last: number
  count: number
  at: number
  /** A JSON array, see event-records.ts. */
  records: string
}

export interface OutboxPage {
  /** The number of the last event that was written. */
  last: string
  /** The number before the first event that is kept, and before the first ever. */
  before: number
  birth: number
  entries: OutboxEntry[]
  /** Events up to this time may be of removed tasks. */
  endedUntil: number
}

type Reply = [
  last: string,
  before: string,
  birth: string,
  entries: [last: string, count: string, at: string, records: string][],
  endedUntil: string,
]

interface OutboxQuery {
  after: string
  max: number
  /** Whether the caller is notified of the next events. */
  stays: boolean
  bytesMax: number
}

/** Reads entries of the outbox of a partition, see events.lua. */
export async function readOutbox(
  database: Database,
  partition: number,
  { after, max, stays, bytesMax }: OutboxQuery,
): Promise<OutboxPage> {
  const args = [after, max, stays ? '1' : '', bytesMax]
  const [last, before, birth, entries, endedUntil] = await database.run<Reply>('events', partition, args)
  return {
    last,
    before: Number(before),
    birth: Number(birth),
    entries: entries.map(([last, count, at, records]) => ({
      last: Number(last),
      count: Number(count),
      at: Number(at),
      records,
    })),
    endedUntil: Number(endedUntil),
  }
}
