import { Ajv2020 } from 'ajv/dist/2020.js'
import { XQueueError } from '../../../task/errors.ts'
import { Type } from '../../../task/json-schema.ts'
import type { Schedule } from '../../../task/schedule.ts'
import { CATCH_UPS, OVERLAPS, tickOfKey } from '../../../task/schedule.ts'
import type { Task } from '../../../task/task.ts'
import { TypeNameSchema } from '../../../task/task-input.ts'
import { nextTick } from '../../../task/timing.ts'
import { refuseUnstorableSchedule } from '../../admission.ts'
import { scheduleChange } from '../../schedule-document.ts'
import type { State } from '../../state.ts'
import type { Log, LogRecord } from '../client/log.ts'
import { takeApart } from '../records/apart.ts'
import type { DeadLetter, DeadLetters } from '../records/dead-letters.ts'
import { read, readable } from '../records/records.ts'

/** The last task of a schedule. */
interface Last {
  schedule: string
  /** The tick, ms. */
  at: number
  task: string
}

interface Kept {
  schedule: Schedule
  location: Omit<DeadLetter, 'error'>
}

const Time = Type.Integer()
const TimeOrNull = Type.Union([Time, Type.Null()])
const isEntry = new Ajv2020({ strict: false }).compile(
  Type.Union([
    Type.Object({ schedule: TypeNameSchema, at: Time, task: Type.String() }),
    Type.Object({
      id: TypeNameSchema,
      task: Type.Object({ type: TypeNameSchema, payload: Type.Unknown() }),
      timing: Type.Object({}),
      catchUp: Type.Enum([...CATCH_UPS]),
      overlap: Type.Enum([...OVERLAPS]),
      paused: Type.Boolean(),
      nextAt: TimeOrNull,
      createdAt: Time,
    }),
  ]),
)

/**
 * The schedules, in a compacted topic: each with its last change under its id, and its last tick under `<id> last`. A
 * tick is written after its task, so that a lost tick is due again after a restoration.
 */
export class SchedulesLog {
  readonly #log: Log
  readonly #topic: string
  readonly #deadLetters: DeadLetters

  constructor(log: Log, topic: string, deadLetters: DeadLetters) {
    this.#log = log
    this.#deadLetters = deadLetters
    this.#topic = topic
  }

  /**
   * Writes a schedule from the state, or its removal. Several processes may change one at once, and write in another
   * order than the state: so each checks again after its write, until nothing has changed since.
   *
   * @param read returns the schedules of the state; rejects if it has lost data
   */
  async follow(id: string, readState: () => Promise<Schedule[]>): Promise<void> {
    for (let written: string | undefined; ; ) {
      const schedule = (await readState()).find((one) => one.id === id) ?? null
      // Ticks have records of their own.
      const text = JSON.stringify(schedule && { ...schedule, nextAt: 0, lastAt: 0, lastTaskId: '' })
      if (text === written) return
      const dropped = schedule ? [] : [this.#record(lastKey(id), null)]
      await this.#log.write([this.#record(id, schedule), ...dropped])
      written = text
    }
  }

  /** @param tasks tasks of ticks, in the order of their creation */
  async ticked(tasks: readonly Task[]): Promise<void> {
    const records = tasks.flatMap(({ id, idempotencyKey }) => {
      const tick = tickOfKey(idempotencyKey)
      if (!tick) return []
      const last: Last = { schedule: tick.id, at: tick.at, task: id }
      return [this.#record(lastKey(tick.id), last)]
    })
    await this.#log.write(records)
  }

  /** Restores all schedules in a state that has its tasks already: the tasks prevent a tick from being repeated. */
  async restore(state: State): Promise<void> {
    const schedules = new Map<string, Kept>()
    const lasts = new Map<string, Last>()
    const bad: DeadLetter[] = []
    const topic = this.#topic
    for await (const { partition, records } of this.#log.read(topic, new Map())) {
      for (const record of records) {
        const { key, value } = record
        const id = key?.toString() ?? ''
        const location = { topic, partition, record }
        const entry =
          value === null ? null : readable(() => read<Schedule | Last>(value, isEntry, 'a schedule or a tick'))
        if (entry === null) schedules.delete(id)
        else if (entry instanceof XQueueError) bad.push({ ...location, error: entry })
        else if ('schedule' in entry) lasts.set(entry.schedule, entry)
        else schedules.set(id, { schedule: entry, location })
      }
    }
    const take = async ([one]: readonly Kept[]) => {
      const { schedule } = one!
      const kept = withLast(schedule, lasts.get(schedule.id))
      refuseUnstorableSchedule({ keep: kept })
      await state.documents({ changes: [scheduleChange(kept, null)] })
    }
    for (const kept of schedules.values()) {
      await takeApart([kept], take, ({ location }, error) => bad.push({ ...location, error }))
    }
    await this.#deadLetters.write(bad)
  }

  #record(key: string, value: Schedule | Last | null): LogRecord {
    return { topic: this.#topic, key, value: value && JSON.stringify(value) }
  }
}

function lastKey(id: string): string {
  return `${id} last`
}

/** A schedule continues after its last tick; a tick of an earlier schedule of the same id does not count. */
function withLast(schedule: Schedule, last: Last | undefined): Schedule {
  if (!last || last.at < schedule.createdAt) return schedule
  const after = schedule.nextAt === null ? null : nextTick(schedule.timing, last.at)
  const nextAt = after === null ? null : Math.max(schedule.nextAt!, after)
  return { ...schedule, nextAt, lastAt: last.at, lastTaskId: last.task }
}
