import type { Health } from '../engine.ts'
import type { Log } from './log.ts'
import { faultsOfTopics } from './topic-check.ts'
import type { Topics } from './topics.ts'
import type { Trouble } from './trouble.ts'

type Check = Health['checks'][number]

/** How far this process is with what the state and the log owe each other. */
export interface Progress {
  isComplete: boolean
  isBehind: boolean
  /** Partitions whose records are not gone on with. */
  stuck: readonly (Trouble & { topic: string; partition: number })[]
}

/** Whether the brokers answer and keep what they are given, beside what the state says of itself. */
export async function healthOf(log: Log, topics: Topics, state: Health, progress: Progress): Promise<Health> {
  const own = state.checks.map((check) => ({ ...check, name: `state ${check.name}` }))
  try {
    const { brokers, replicas, inSync, leaderless } = await facts(log, topics)
    const faults = await faultsOfTopics(log, topics)
    const checks: Check[] = [
      { name: 'brokers', ok: true, detail: `${brokers} answer` },
      { name: 'leaders', ok: leaderless.length === 0, detail: leadersOf(leaderless) },
      { name: 'replicas', ok: true, detail: `${inSync} of ${replicas} copies of the least kept topic are in sync` },
      { name: 'topics', ok: faults.length === 0, detail: faults.join('; ') || 'are set as they must be' },
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
  if (leaderless.length === 0) return 'every partition has one'
  return `partitions of ${[...new Set(leaderless)].join(', ')} have none: bring their brokers back`
}

function completeness({ isComplete }: Progress): Check {
  const detail = isComplete
    ? 'the state has everything that the topics tell'
    : 'the state has lost what it had and is being restored from the topics: submissions are refused meanwhile'
  return { name: 'state', ok: isComplete, detail }
}

function relay({ isBehind }: Progress): Check {
  const detail = isBehind
    ? 'outcomes wait for Kafka: nothing more is handed out until they are written'
    : 'outcomes are written as they come'
  return { name: 'relay', ok: !isBehind, detail }
}

/** Other partitions, submissions over HTTP and workers go on: no load balancer is to take this process out. */
function readers({ stuck }: Progress): Check {
  const [first, ...others] = stuck
  const seconds = (since: number) => Math.round((performance.now() - since) / 1_000)
  const detail = first
    ? `partition ${first.partition} of ${first.topic} has not gone on at offset ${first.offset} for ` +
      `${seconds(first.since)} s (${first.because})${others.length > 0 ? `, and ${others.length} more` : ''}`
    : 'every record is gone on with'
  return { name: 'readers', ok: first === undefined, detail, degrades: true }
}

function durabilityOf(replicas: number): string {
  const copies = `is written to ${replicas} ${replicas === 1 ? 'broker' : 'brokers'} before it is answered`
  const survives = replicas > 1 ? `and survives the loss of ${replicas - 1}` : 'and survives its restart'
  return `${copies}, ${survives}; and the loss of the whole state`
}
