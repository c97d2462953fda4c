import type { TypeChange } from '../engine.ts'
import type { State } from '../state.ts'
import type { Log, LogRecord } from './log.ts'
import { jsonOf } from './records.ts'

/**
 * What was set of task types, in a compacted topic: each field of a type under a key of its own, `<type> <field>`, so
 * that the last change of each is kept and none has to be merged.
 */
export class TypesLog {
  readonly #log: Log
  readonly #topic: string

  constructor(log: Log, topic: string) {
    this.#log = log
    this.#topic = topic
  }

  async write(type: string, change: TypeChange): Promise<void> {
    const fields = Object.entries(change).filter(([, value]) => value !== undefined)
    const records: LogRecord[] = fields.map(([field, value]) => ({
      topic: this.#topic,
      key: `${type} ${field}`,
      value: JSON.stringify({ type, change: { [field]: value } }),
    }))
    await this.#log.write(records)
  }

  /** Makes all types in a state as they were set last. */
  async restore(state: State): Promise<void> {
    const last = new Map<string, { type: string; change: TypeChange }>()
    for await (const { records } of this.#log.read(this.#topic, new Map())) {
      for (const { key, value } of records) {
        const set = jsonOf(value) as { type: string; change: TypeChange } | null
        if (key && set) last.set(key.toString(), set)
      }
    }
    // What makes a type known goes first.
    const isFirst = ({ change }: { change: TypeChange }) => Number('handler' in change || 'declared' in change)
    const changes = [...last.values()].sort((a, b) => isFirst(b) - isFirst(a))
    for (const { type, change } of changes) {
      // A type that neither a handler nor anybody has declared is not there to be limited.
      await state.configureType(type, change).catch((error: { code?: string }) => {
        if (error.code !== 'unknown_type') throw error
      })
    }
  }
}
