import type { ClusterMetadata, Consumer } from '@platformatic/kafka'

type FetchResponse = Awaited<ReturnType<Consumer['fetch']>>
type FetchRequestTopic = Parameters<Consumer['fetch']>[0]['topics'][number]

/** A partition, and the offset to continue from. */
export interface Wanted {
  topic: string
  partition: number
  next: bigint
}

export interface ReadRecord {
  offset: bigint
  key: Buffer | null
  value: Buffer | null
  headers: [Buffer | null, Buffer | null][]
  /** The time at which it was written, ms. */
  at: number
}

/** The records that one fetch returned for a partition, and the offset to continue from. */
export interface FetchedPartition {
  topic: string
  partition: number
  records: ReadRecord[]
  next: bigint
}

const PARTITION_BYTES_MAX = 2_097_152
const UNKNOWN_EPOCH = -1
const NO_ERROR = 0
const CONTROL_BATCH = 0x20

/** The requests to each node: partitions by the node that leads them. Those without a leader are skipped for now. */
export function wantedByNode(metadata: ClusterMetadata, wanted: readonly Wanted[]): Map<number, FetchRequestTopic[]> {
  const byNode = new Map<number, Map<string, FetchRequestTopic>>()
  for (const { topic, partition, next } of wanted) {
    const known = metadata.topics.get(topic)
    const leader = known?.partitions[partition]?.leader ?? -1
    if (!known || leader < 0) continue
    const topics = byNode.get(leader) ?? new Map<string, FetchRequestTopic>()
    byNode.set(leader, topics)
    const asked = topics.get(topic) ?? { topicId: known.id, partitions: [] }
    topics.set(topic, asked)
    asked.partitions.push({
      partition,
      fetchOffset: next,
      currentLeaderEpoch: UNKNOWN_EPOCH,
      lastFetchedEpoch: UNKNOWN_EPOCH,
      partitionMaxBytes: PARTITION_BYTES_MAX,
    })
  }
  return new Map([...byNode].map(([node, topics]) => [node, [...topics.values()]]))
}

/** The records of an answer. Kafka returns whole batches, so some records may lie before the requested offset. */
export function fetchedOf(
  response: FetchResponse,
  metadata: ClusterMetadata,
  wanted: readonly Wanted[],
): FetchedPartition[] {
  const names = new Map([...metadata.topics].map(([name, topic]) => [topic?.id, name]))
  const nextOf = new Map(wanted.map(({ topic, partition, next }) => [`${topic}:${partition}`, next]))
  return response.responses.flatMap(({ topicId, partitions }) => {
    const topic = names.get(topicId)
    if (topic === undefined) return []
    return partitions.flatMap(({ partitionIndex: partition, errorCode, records: batches }) => {
      const asked = nextOf.get(`${topic}:${partition}`)
      if (asked === undefined || errorCode !== NO_ERROR) return []
      const fetched: FetchedPartition = { topic, partition, records: [], next: asked }
      for (const batch of batches ?? []) {
        // Records that end a transaction are for clients; they contain no data.
        const isControl = (batch.attributes & CONTROL_BATCH) !== 0
        for (const { offsetDelta, timestampDelta, key, value, headers } of isControl ? [] : batch.records) {
          const offset = batch.firstOffset + BigInt(offsetDelta)
          if (offset < asked) continue
          const at = Number(batch.firstTimestamp + timestampDelta)
          fetched.records.push({ offset, key, value, headers, at })
        }
        // Also if compaction has removed all of its records.
        const following = batch.firstOffset + BigInt(batch.lastOffsetDelta) + 1n
        if (following > fetched.next) fetched.next = following
      }
      return [fetched]
    })
  })
}

/** An offset, or the first kept one if that offset has been removed. */
export function notBefore(begin: bigint, offset: bigint): bigint {
  if (offset > begin) return offset
  return begin
}
