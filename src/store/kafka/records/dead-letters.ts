import { XQueueError } from '../../../task/errors.ts'
import { describeError } from '../../../task/thrown.ts'
import { isTooLarge } from '../client/failures.ts'
import type { ReadRecord } from '../client/fetched.ts'
import type { Log, LogRecord } from '../client/log.ts'

/** A record that cannot be used, its position, and the reason. */
export interface DeadLetter {
  topic: string
  partition: number
  record: Pick<ReadRecord, 'offset' | 'key' | 'value' | 'headers'>
  error: unknown
}

/** An error text may contain a whole value; a header is for people. */
const REASON_CHARS_MAX = 2_000

/**
 * The topic of unusable records, each with the reason and the position that it was read from. A reader writes such a
 * record here and continues: no record blocks later ones.
 */
export class DeadLetters {
  readonly #log: Log
  readonly #topic: string

  constructor(log: Log, topic: string) {
    this.#log = log
    this.#topic = topic
  }

  /** @throws XQueueError `engine_unavailable` while Kafka accepts no records */
  async write(letters: readonly DeadLetter[]): Promise<void> {
    if (letters.length === 0) return
    try {
      await this.#log.write(letters.map((letter) => this.#recordOf(letter)))
    } catch (error) {
      if (!isTooLarge(error)) throw error
      for (const letter of letters) await this.#writeAlone(letter)
    }
  }

  /** With its reason, a record that only just fits its own topic may be too large for this one. */
  async #writeAlone(letter: DeadLetter): Promise<void> {
    const whole = this.#recordOf(letter)
    try {
      await this.#log.write([whole])
    } catch (error) {
      if (!isTooLarge(error)) throw error
      const headers = this.#placeOf(letter)
      headers.set('xqueue_value_bytes', String(letter.record.value?.length ?? 0))
      await this.#log.write([{ topic: this.#topic, key: null, value: null, headers }])
    }
  }

  #recordOf(letter: DeadLetter): LogRecord {
    const { key, value, headers: own } = letter.record
    const headers = this.#placeOf(letter)
    for (const [name, text] of own) if (name && text) headers.set(name, text)
    return { topic: this.#topic, key, value, headers }
  }

  #placeOf({ topic, partition, record, error }: DeadLetter): Map<string | Buffer, string | Buffer> {
    return new Map([
      ['xqueue_reason', reasonOf(error)],
      ['xqueue_topic', topic],
      ['xqueue_partition', String(partition)],
      ['xqueue_offset', String(record.offset)],
    ])
  }
}

function reasonOf(error: unknown): string {
  const reason = error instanceof XQueueError ? `${error.code}: ${error.message}` : describeError(error)
  return reason.slice(0, REASON_CHARS_MAX).toWellFormed()
}
