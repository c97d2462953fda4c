import { setTimeout as sleep } from 'node:timers/promises'
import { describeError, type FieldError, XQueueError } from '../../task/errors.ts'
import { PayloadSchemas } from '../../task/payload-schemas.ts'
import type { TaskSpec } from '../../task/task.ts'
import { type KnownType, specOf, throwErrors } from '../../task/task-input.ts'
import type { Engine } from '../engine.ts'
import type { ReadRecord } from './fetched.ts'
import type { PartitionReader } from './group.ts'
import type { Log, LogRecord } from './log.ts'
import { submissionOf } from './submission.ts'
import type { Topics } from './topics.ts'

const BATCH = 500
const QUEUE_MAX = 2_000
const PAUSE_MS = 500
/** How long what the engine said of a type is believed. */
const BELIEVED_MS = 1_000
/** These pass: it is tried again, and offsets stay where they are. */
const PASSING: readonly string[] = ['engine_unavailable', 'queue_full', 'internal']

/** A record that is to be accepted, and where it stands in the batch. */
interface Candidate {
  record: ReadRecord
  spec: TaskSpec
}

/**
 * Accepts what any program has put into a partition of the submit topic, as over HTTP. What is no task goes to the
 * topic of dead letters with the reason. Each record is known by its place: one that is read again is accepted once.
 */
export class SubmitPartition implements PartitionReader {
  readonly #engine: Pick<Engine, 'submit' | 'types'>
  readonly #log: Log
  readonly #topics: Topics
  readonly #partition: number
  readonly #schemas = new PayloadSchemas()
  readonly #types = new Map<string, { at: number; known: Promise<KnownType | null> }>()
  #queue: ReadRecord[] = []
  #doneTo: bigint
  #working = false
  #closed = false

  constructor(engine: Pick<Engine, 'submit' | 'types'>, log: Log, topics: Topics, partition: number, from: bigint) {
    this.#engine = engine
    this.#log = log
    this.#topics = topics
    this.#partition = partition
    this.#doneTo = from
  }

  get wants(): boolean {
    return this.#queue.length < QUEUE_MAX
  }

  get doneTo(): bigint {
    return this.#doneTo
  }

  take(records: readonly ReadRecord[]): void {
    this.#queue.push(...records)
    void this.#work()
  }

  close(): void {
    this.#closed = true
  }

  async #work(): Promise<void> {
    if (this.#working) return
    this.#working = true
    while (this.#queue.length > 0 && !this.#closed) {
      const batch = this.#queue.slice(0, BATCH)
      try {
        await this.#accept(batch)
        this.#queue.splice(0, batch.length)
        this.#doneTo = batch.at(-1)!.offset + 1n
      } catch {
        // The state or Kafka is away, and health says so; it is tried again from here.
        await sleep(PAUSE_MS)
      }
    }
    this.#working = false
  }

  async #accept(batch: readonly ReadRecord[]): Promise<void> {
    const dead: LogRecord[] = []
    let candidates: Candidate[] = []
    for (const record of batch) {
      try {
        candidates.push({ record, spec: await this.#specOf(record) })
      } catch (error) {
        if (isPassing(error)) throw error
        dead.push(this.#deadLetter(record, error))
      }
    }
    while (candidates.length > 0) {
      try {
        await this.#engine.submit(candidates.map(({ spec }) => spec))
        break
      } catch (error) {
        if (isPassing(error)) throw error
        const refused = refusedOf(error, candidates.length)
        dead.push(...candidates.filter((_, at) => refused.has(at)).map(({ record }) => this.#deadLetter(record, error)))
        candidates = candidates.filter((_, at) => !refused.has(at))
      }
    }
    await this.#log.write(dead)
  }

  async #specOf(record: ReadRecord): Promise<TaskSpec> {
    const input = submissionOf(record)
    const errors: FieldError[] = []
    const spec = await specOf(input, await this.#typeOf(input.type), '', errors)
    throwErrors(errors)
    const place = `${this.#topics.submit}/${this.#partition}/${record.offset}`
    return { ...spec, idempotencyKey: spec.idempotencyKey ?? place }
  }

  #typeOf(type: string): Promise<KnownType | null> {
    const told = this.#types.get(type)
    if (told && Date.now() - told.at < BELIEVED_MS) return told.known
    const known = this.#engine.types({ names: [type] }).then(([info]) => {
      if (!info) return null
      return {
        defaults: info.defaults,
        check: (payload) => this.#schemas.check(info.payloadSchema, payload),
      } as KnownType
    })
    this.#types.set(type, { at: Date.now(), known })
    known.catch(() => this.#types.delete(type))
    return known
  }

  #deadLetter(record: ReadRecord, error: unknown): LogRecord {
    const reason = error instanceof XQueueError ? `${error.code}: ${error.message}` : describeError(error)
    const headers = new Map<string | Buffer, string | Buffer>([
      ['xqueue_reason', reason],
      ['xqueue_topic', this.#topics.submit],
      ['xqueue_partition', String(this.#partition)],
      ['xqueue_offset', String(record.offset)],
    ])
    for (const [name, value] of record.headers) if (name && value) headers.set(name, value)
    return { topic: this.#topics.dead, key: record.key, value: record.value, headers }
  }
}

function isPassing(error: unknown): boolean {
  return error instanceof XQueueError ? PASSING.includes(error.code) || error.code === 'shutting_down' : false
}

/** Which of a batch an error is about; one that names none is about all. */
function refusedOf(error: unknown, count: number): Set<number> {
  const errors = error instanceof XQueueError ? (error.details.errors ?? []) : []
  const named = errors.flatMap(({ path }) => /^tasks\[(\d+)\]/.exec(path)?.slice(1).map(Number) ?? [])
  return new Set(named.length > 0 ? named : Array.from({ length: count }, (_, index) => index))
}
