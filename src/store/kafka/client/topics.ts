import { createHash } from 'node:crypto'
import type { KafkaUrl } from './kafka-url.ts'

/**
 * A topic's own settings. Unfinished tasks are never removed by time: records are deleted only when their tasks have
 * ended.
 */
export interface TopicPlan {
  name: string
  partitions: number
  configs: Readonly<Record<string, string>>
}

/** A record holds a payload and a result of 1 MiB each, plus their JSON escapes. */
const RECORD_BYTES_MAX = 8 * 1_048_576
/** A topic's name has at most 249 characters. */
const LANE_CHARS_MAX = 200
const FOREVER = { 'retention.ms': '-1', 'retention.bytes': '-1' }

/**
 * The names of all topics, and their settings:
 *
 *     <prefix>.submit            tasks that any program writes
 *     <prefix>.lane.<type>.<p>   accepted tasks of a type and priority, until they have ended
 *     <prefix>.parked            the same for tasks that would block their lane's offsets
 *     <prefix>.outcomes          finished tasks in full, compacted by id
 *     <prefix>.events            changes of status, as CloudEvents
 *     <prefix>.types             limits, rates, pauses and declared types, compacted
 *     <prefix>.limits            settings of named limits, compacted
 *     <prefix>.schedules         schedules and their last ticks, compacted
 *     <prefix>.dead              records of `submit` that are no tasks, with the reason
 *
 * No name contains a `_`, because in metric names Kafka does not distinguish it from a `.`.
 */
export class Topics {
  readonly group: string
  readonly submit: string
  readonly parked: string
  readonly outcomes: string
  readonly events: string
  readonly types: string
  readonly limits: string
  readonly schedules: string
  readonly dead: string
  readonly #lanePrefix: string
  readonly #url: KafkaUrl

  constructor(url: KafkaUrl) {
    const { prefix } = url
    this.#url = url
    this.group = `${prefix}.xqueue`
    this.submit = `${prefix}.submit`
    this.parked = `${prefix}.parked`
    this.outcomes = `${prefix}.outcomes`
    this.events = `${prefix}.events`
    this.types = `${prefix}.types`
    this.limits = `${prefix}.limits`
    this.schedules = `${prefix}.schedules`
    this.dead = `${prefix}.dead`
    this.#lanePrefix = `${prefix}.lane.`
  }

  lane(type: string, priority: number): string {
    const escaped = type.replace(/[^A-Za-z0-9.]/g, (char) => `-${char.charCodeAt(0).toString(16)}`)
    const long = escaped.length > LANE_CHARS_MAX
    const digest = long ? `-${createHash('sha1').update(type).digest('hex').slice(0, 16)}` : ''
    return `${this.#lanePrefix}${escaped.slice(0, LANE_CHARS_MAX)}${digest}.${priority}`
  }

  isOwn(topic: string): boolean {
    return topic.startsWith(`${this.#url.prefix}.`)
  }

  /** Whether records of a topic are tasks that were accepted. */
  holdsTasks(topic: string): boolean {
    return topic.startsWith(this.#lanePrefix) || topic === this.parked
  }

  /** The topics that exist from the start. */
  plans(): TopicPlan[] {
    const { partitions, retentionMs, events } = this.#url
    const days = { 'retention.ms': String(retentionMs) }
    const plan = (name: string, configs: Record<string, string>, count = partitions): TopicPlan => ({
      name,
      partitions: count,
      configs: { ...configs, 'max.message.bytes': String(RECORD_BYTES_MAX) },
    })
    return [
      plan(this.submit, { 'cleanup.policy': 'delete', ...days }),
      plan(this.parked, { 'cleanup.policy': 'delete', ...FOREVER }),
      plan(this.outcomes, { 'cleanup.policy': 'compact,delete', ...days }),
      // With a single partition, so that the last record of a type is its last change.
      plan(this.types, { 'cleanup.policy': 'compact' }, 1),
      plan(this.limits, { 'cleanup.policy': 'compact' }, 1),
      plan(this.schedules, { 'cleanup.policy': 'compact' }, 1),
      plan(this.dead, { 'cleanup.policy': 'delete', ...days }, 1),
      ...(events ? [plan(this.events, { 'cleanup.policy': 'delete', ...days })] : []),
    ]
  }

  lanePlan(name: string): TopicPlan {
    const configs = { 'cleanup.policy': 'delete', ...FOREVER, 'max.message.bytes': String(RECORD_BYTES_MAX) }
    return { name, partitions: this.#url.partitions, configs }
  }
}
