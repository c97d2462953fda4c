import { setTimeout as sleep } from 'node:timers/promises'
import { defaultsWithin } from '../../../task/ceilings.ts'
import { type FieldError, XQueueError } from '../../../task/errors.ts'
import { PayloadSchemas } from '../../../task/payload-schemas.ts'
import { type TaskSpec, TYPE_PATTERN } from '../../../task/task.ts'
import { type KnownType, specOf, type TaskInput, throwErrors } from '../../../task/task-input.ts'
import type { Store } from '../../store.ts'
import type { ReadRecord } from '../client/fetched.ts'
import type { PartitionReader } from '../client/group.ts'
import { type Trouble, troubleAt } from '../client/trouble.ts'
import { isPassing, takeApart } from '../records/apart.ts'
import type { DeadLetter, DeadLetters } from '../records/dead-letters.ts'
import { submissionsOf } from './submission.ts'

const BATCH = 500
const BATCH_BYTES_MAX = 4 * 1_048_576
const QUEUE_MAX = 2_000
const QUEUE_BYTES_MAX = 16 * 1_048_576
const PAUSE_MS = 500
const TYPES_MAX = 1_000
/** How long a cached answer about a type is valid. */
const CACHE_MS = 1_000
/** A task to be accepted, and the record for the dead letters if it is refused. */
interface Candidate {
  record: DeadLetter['record']
  spec: TaskSpec
}

/**
 * Accepts the records that programs have written to a partition of the submit topic, as over HTTP. Records that are no
 * tasks go to the topic of dead letters with the reason. The position identifies each record: a record that is read
 * again is accepted only once.
 */
export class SubmitPartition implements PartitionReader {
  readonly #store: Pick<Store, 'submit' | 'inspect'>
  readonly #deadLetters: DeadLetters
  readonly #topic: string
  readonly #partition: number
  readonly #schemas = new PayloadSchemas()
  readonly #types = new Map<string, { at: number; known: Promise<KnownType | null> }>()
  #queue: ReadRecord[] = []
  #queueBytes = 0
  #trouble: Trouble | null = null
  #doneTo: bigint
  #working = false
  #closed = false

  constructor(
    store: Pick<Store, 'submit' | 'inspect'>,
    deadLetters: DeadLetters,
    topic: string,
    partition: number,
    from: bigint,
  ) {
    this.#store = store
    this.#deadLetters = deadLetters
    this.#topic = topic
    this.#partition = partition
    this.#doneTo = from
  }

  get wants(): boolean {
    return this.#queue.length < QUEUE_MAX && this.#queueBytes < QUEUE_BYTES_MAX
  }

  get trouble(): Trouble | null {
    return this.#trouble
  }

  get doneTo(): bigint {
    return this.#doneTo
  }

  take(records: readonly ReadRecord[]): void {
    for (const record of records) {
      this.#queue.push(record)
      this.#queueBytes += record.value?.length ?? 0
    }
    void this.#work()
  }

  close(): void {
    this.#closed = true
  }

  async #work(): Promise<void> {
    if (this.#working) return
    this.#working = true
    while (this.#queue.length > 0 && !this.#closed) {
      const batch = batchOf(this.#queue)
      try {
        await this.#accept(batch)
        this.#queue.splice(0, batch.length)
        for (const { value } of batch) this.#queueBytes -= value?.length ?? 0
        this.#doneTo = batch.at(-1)!.offset + 1n
        this.#trouble = null
      } catch (error) {
        // The state or Kafka is unavailable, or full: the next try starts from here.
        this.#trouble = troubleAt(this.#doneTo, error, this.#trouble)
        await sleep(PAUSE_MS)
      }
    }
    this.#working = false
  }

  async #accept(batch: readonly ReadRecord[]): Promise<void> {
    const dead: DeadLetter[] = []
    const candidates: Candidate[] = []
    for (const { offset, ...record } of batch) {
      for (const { input, source } of submissionsOf(record)) {
        const candidate = { record: { ...source, offset } }
        try {
          candidates.push({ ...candidate, spec: await this.#specOf(input, offset) })
        } catch (error) {
          if (isPassing(error) || isInternal(error)) throw error
          dead.push(this.#deadLetter(candidate, error))
        }
      }
    }
    const take = async (some: readonly Candidate[]) => {
      await this.#store.submit(some.map(({ spec }) => spec))
    }
    for (let from = 0; from < candidates.length; from += BATCH) {
      const refuse = (candidate: Candidate, error: unknown) => dead.push(this.#deadLetter(candidate, error))
      await takeApart(candidates.slice(from, from + BATCH), take, refuse)
    }
    await this.#deadLetters.write(dead)
  }

  async #specOf(input: TaskInput | XQueueError, offset: bigint): Promise<TaskSpec> {
    if (input instanceof XQueueError) throw input
    const errors: FieldError[] = []
    const spec = await specOf(input, await this.#typeOf(input.type), '', errors)
    throwErrors(errors)
    const position = `${this.#topic}/${this.#partition}/${offset}`
    return { ...spec, idempotencyKey: spec.idempotencyKey ?? position }
  }

  async #typeOf(type: string): Promise<KnownType | null> {
    // The store is only queried for valid type names.
    if (!TYPE_PATTERN.test(type)) return null
    const cached = this.#types.get(type)
    if (cached && performance.now() - cached.at < CACHE_MS) return cached.known
    const known = this.#store.inspect({ types: [type], settings: true }).then(({ types: [facts] }) => {
      if (!facts) return null
      const { ceilings, defaults, payloadSchema } = facts.settings!
      return {
        defaults: defaultsWithin(ceilings, defaults),
        ceilings,
        check: (payload) => this.#schemas.check(payloadSchema, payload),
      } as KnownType
    })
    if (this.#types.size >= TYPES_MAX) this.#types.clear()
    this.#types.set(type, { at: performance.now(), known })
    known.catch(() => this.#types.delete(type))
    return known
  }

  #deadLetter({ record }: Pick<Candidate, 'record'>, error: unknown): DeadLetter {
    return { topic: this.#topic, partition: this.#partition, record, error }
  }
}

function isInternal(error: unknown): boolean {
  return error instanceof XQueueError && error.code === 'internal'
}

/** The first records of the queue, as many as one step takes. */
function batchOf(queue: readonly ReadRecord[]): ReadRecord[] {
  let bytes = 0
  const end = queue.findIndex(({ value }, index) => {
    bytes += value?.length ?? 0
    return index > 0 && (index === BATCH || bytes > BATCH_BYTES_MAX)
  })
  return queue.slice(0, end < 0 ? queue.length : end)
}
