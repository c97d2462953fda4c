import type { Health } from '../../store.ts'
import type { Log } from './log.ts'
import { faultsOfTopics } from './topic-check.ts'
import type { Topics } from './topics.ts'
import type { Trouble } from './trouble.ts'

type Check = Health['checks'][number]

/** The progress of this process with the work that the state and the log still have to exchange. */
export interface Progress {
  isComplete: boolean
  isBehind: boolean
  /** Partitions whose readers do not advance. */
  stuck: readonly (Trouble & { topic: string; partition: number })[]
}

/** Whether the brokers answer and keep records, in addition to the state's own health. */
export async function healthOf(log: Log, topics: Topics, state: Health, progress: Progress): Promise<Health> {
  const own = state.checks.map((check) => ({ ...check, name: `state ${check.name}` }))
  try {
    const { brokers, replicas, inSync, leaderless } = await facts(log, topics)
    const faults = await faultsOfTopics(log, topics)
    const checks: Check[] = [
      { name: 'brokers', ok: true, detail: `${brokers} answer` },
      { name: 'leaders', ok: leaderless.length === 0, detail: leadersOf(leaderless) },
      {
        name: 'replicas',
        ok: true,
        detail: `${inSync} of ${replicas} copies of the least replicated topic are in sync`,
      },
      { name: 'topics', ok: faults.length === 0, detail: faults.join('; ') || 'all topics have the required settings' },
      completeness(progress),
      relay(progress),
      readers(progress),
    ]
    return { engine: 'kafka', durability: durabilityOf(replicas), checks: [...checks, ...own] }
  } catch (error) {
    const brokers = { name: 'brokers', ok: false, detail: (error as Error).message }
    return { engine: 'kafka', durability: 'unknown while Kafka cannot be reached', checks: [brokers, ...own] }
  }
}

async function facts(log: Log, topics: Topics) {
  const names = await log.topics((topic) => topics.isOwn(topic))
  const { brokers, topics: known } = await log.metadata(names)
  const all = [...known].flatMap(([name, { partitions }]) => partitions.map((partition) => ({ name, ...partition })))
  return {
    brokers: brokers.size,
    replicas: Math.min(...all.map(({ replicas }) => replicas.length)),
    inSync: Math.min(...all.map(({ isr }) => isr.length)),
    leaderless: all.filter(({ leader }) => leader < 0).map(({ name }) => name),
  }
}

function leadersOf(leaderless: readonly string[]): string {
  if (leaderless.length === 0) return 'every partition has a leader'
  return `partitions of ${[...new Set(leaderless)].join(', ')} have no leader: restart their brokers`
}

function completeness({ isComplete }: Progress): Check {
  const detail = isComplete
    ? 'the state has all data of the topics'
    : 'the state has lost data and is being restored from the topics: submissions are refused until then'
  return { name: 'state', ok: isComplete, detail }
}

function relay({ isBehind }: Progress): Check {
  const detail = isBehind
    ? 'outcomes wait for Kafka: no more tasks are delivered until they are written'
    : 'outcomes are written without delay'
  return { name: 'relay', ok: !isBehind, detail }
}

/** Other partitions, submissions over HTTP and workers continue, so no load balancer should take this process out. */
function readers({ stuck }: Progress): Check {
  const [first, ...others] = stuck
  const seconds = (since: number) => Math.round((performance.now() - since) / 1_000)
  const detail = first
    ? `partition ${first.partition} of ${first.topic} has not advanced beyond offset ${first.offset} for ` +
      `${seconds(first.since)} s (${first.because})${others.length > 0 ? `, and ${others.length} more` : ''}`
    : 'every partition advances'
  return { name: 'readers', ok: first === undefined, detail, degrades: true }
}

function durabilityOf(replicas: number): string {
  const copies = `is written to ${replicas} ${replicas === 1 ? 'broker' : 'brokers'} before it is acknowledged`
  const survives = replicas > 1 ? `and survives the loss of ${replicas - 1}` : 'and survives its restart'
  return `${copies}, ${survives}; and the loss of the whole state`
}
