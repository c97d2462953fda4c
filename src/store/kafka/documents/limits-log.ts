import { Ajv2020 } from 'ajv/dist/2020.js'
import { XQueueError } from '../../../task/errors.ts'
import { Type } from '../../../task/json-schema.ts'
import { isOfEachKey } from '../../../task/uses.ts'
import { createsLimit } from '../../limit-record.ts'
import type { State } from '../../state.ts'
import type { LimitChange } from '../../store.ts'
import type { Log, LogRecord } from '../client/log.ts'
import { takeApart } from '../records/apart.ts'
import type { DeadLetter, DeadLetters } from '../records/dead-letters.ts'
import { read, readable } from '../records/records.ts'

interface LimitSetting {
  name: string
  change: LimitChange
}

type Setting = LimitSetting & { location: Omit<DeadLetter, 'error'> }

const FIELDS = ['max', 'rate', 'paused', 'heldUntil'] as const

const isSetting = new Ajv2020({ strict: false }).compile(
  Type.Object({ name: Type.String({ minLength: 1 }), change: Type.Record(Type.Unknown()) }),
)

/**
 * The settings of named limits that operators have changed, in a compacted topic: each field of a limit has its own
 * key, `<field> <name>`, as those of types have. What handlers declare is with their types.
 */
export class LimitsLog {
  readonly #log: Log
  readonly #topic: string
  readonly #deadLetters: DeadLetters

  constructor(log: Log, topic: string, deadLetters: DeadLetters) {
    this.#log = log
    this.#deadLetters = deadLetters
    this.#topic = topic
  }

  async write(name: string, change: LimitChange): Promise<void> {
    const fields = FIELDS.filter((field) => change.remove || change[field] !== undefined)
    const records = fields.map((field): LogRecord => {
      const value = change.remove ? null : JSON.stringify({ name, change: { [field]: change[field] } })
      return { topic: this.#topic, key: `${field} ${name}`, value }
    })
    await this.#log.write(records)
  }

  /** Creates all limits in a state with their last settings. */
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
        const set = readable(() => read<LimitSetting>(record.value, isSetting, 'a setting of a limit'))
        if (set instanceof XQueueError) bad.push({ ...location, error: set })
        else last.set(key, { ...set, location })
      }
    }
    // Changes that create a limit go first, and the limits of all keys before those of one.
    const rank = ({ name, change }: Setting) => Number(createsLimit(change)) * 2 + Number(isOfEachKey(name))
    const changes = [...last.values()].sort((a, b) => rank(b) - rank(a))
    const take = async ([setting]: readonly Setting[]) => {
      // What created the limit may have been lost: then it does not exist.
      await state.configureLimit(setting!.name, setting!.change).catch((error: { code?: string }) => {
        if (error.code !== 'unknown_limit') throw error
      })
    }
    for (const change of changes) {
      await takeApart([change], take, ({ location }, error) => bad.push({ ...location, error }))
    }
    await this.#deadLetters.write(bad)
  }
}
