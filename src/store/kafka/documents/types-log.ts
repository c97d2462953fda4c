import { Ajv2020 } from 'ajv/dist/2020.js'
import { XQueueError } from '../../../task/errors.ts'
import { Type } from '../../../task/json-schema.ts'
import { TypeNameSchema } from '../../../task/task-input.ts'
import type { State } from '../../state.ts'
import type { TypeChange } from '../../store.ts'
import type { Log, LogRecord } from '../client/log.ts'
import { takeApart } from '../records/apart.ts'
import type { DeadLetter, DeadLetters } from '../records/dead-letters.ts'
import { read, readable } from '../records/records.ts'

interface TypeSetting {
  type: string
  change: TypeChange
}

type Setting = TypeSetting & { location: Omit<DeadLetter, 'error'> }

const isSetting = new Ajv2020({ strict: false }).compile(
  Type.Object({ type: TypeNameSchema, change: Type.Record(Type.Unknown()) }),
)

/**
 * The settings of task types, in a compacted topic: each field of a type has its own key, `<type> <field>`, so that
 * Kafka keeps its last change and no merge is needed.
 */
export class TypesLog {
  readonly #log: Log
  readonly #topic: string
  readonly #deadLetters: DeadLetters

  constructor(log: Log, topic: string, deadLetters: DeadLetters) {
    this.#log = log
    this.#deadLetters = deadLetters
    this.#topic = topic
  }

  async write(changes: readonly (readonly [type: string, change: TypeChange])[]): Promise<void> {
    const records = changes.flatMap(([type, change]) => {
      const fields = Object.entries(change).filter(([, value]) => value !== undefined)
      return fields.map(
        ([field, value]): LogRecord => ({
          topic: this.#topic,
          key: `${type} ${field}`,
          value: JSON.stringify({ type, change: { [field]: value } }),
        }),
      )
    })
    await this.#log.write(records)
  }

  /** Creates all types in a state with their last settings. */
  async restore(state: State): Promise<void> {
    const last = new Map<string, Setting>()
    const bad: DeadLetter[] = []
    const topic = this.#topic
    for await (const { partition, records } of this.#log.read(topic, new Map())) {
      for (const record of records) {
        const key = record.key?.toString() ?? ''
        if (record.value === null) {
          last.delete(key)
          continue
        }
        const location = { topic, partition, record }
        const set = readable(() => read<TypeSetting>(record.value, isSetting, 'a setting of a type'))
        if (set instanceof XQueueError) bad.push({ ...location, error: set })
        else last.set(key, { ...set, location })
      }
    }
    // Changes that make a type known go first.
    const isFirst = ({ change }: { change: TypeChange }) => Number('handler' in change || 'declared' in change)
    const changes = [...last.values()].sort((a, b) => isFirst(b) - isFirst(a))
    const take = async ([setting]: readonly Setting[]) => {
      // A type without a handler or a declaration does not exist, so it has no limits.
      await state.configureType(setting!.type, setting!.change).catch((error: { code?: string }) => {
        if (error.code !== 'unknown_type') throw error
      })
    }
    for (const change of changes) {
      await takeApart([change], take, ({ location }, error) => bad.push({ ...location, error }))
    }
    await this.#deadLetters.write(bad)
  }
}
