import type { Schedule } from '../../task/schedule.ts'
import { tickOfKey } from '../../task/schedule.ts'
import type { Task } from '../../task/task.ts'
import { nextTick } from '../../task/timing.ts'
import type { State } from '../state.ts'
import type { Log, LogRecord } from './log.ts'
import { jsonOf } from './records.ts'

/** What was made last of a schedule. */
interface Last {
  schedule: string
  /** The tick, ms. */
  at: number
  task: string
}

/**
 * The schedules, in a compacted topic: each as it was last changed under its id, and its last tick under `<id> last`.
 * A tick is written behind its task, so that one that was lost with the state is due again when it is restored.
 */
export class SchedulesLog {
  readonly #log: Log
  readonly #topic: string

  constructor(log: Log, topic: string) {
    this.#log = log
    this.#topic = topic
  }

  /**
   * Writes a schedule as the state has it, or that it has none. Several processes may change one at once, and write in
   * another order than the state took: so each looks again after it has written, until nothing has changed since.
   *
   * @param look answers what the state has; rejects if it has lost something
   */
  async follow(id: string, look: () => Promise<Schedule[]>): Promise<void> {
    for (let written: string | undefined; ; ) {
      const schedule = (await look()).find((one) => one.id === id) ?? null
      // Ticks have records of their own.
      const text = JSON.stringify(schedule && { ...schedule, nextAt: 0, lastAt: 0, lastTaskId: '' })
      if (text === written) return
      const dropped = schedule ? [] : [this.#record(lastKey(id), null)]
      await this.#log.write([this.#record(id, schedule), ...dropped])
      written = text
    }
  }

  /** @param tasks those of ticks, in the order in which they were made */
  async ticked(tasks: readonly Task[]): Promise<void> {
    const records = tasks.flatMap(({ id, idempotencyKey }) => {
      const tick = tickOfKey(idempotencyKey)
      if (!tick) return []
      const last: Last = { schedule: tick.id, at: tick.at, task: id }
      return [this.#record(lastKey(tick.id), last)]
    })
    await this.#log.write(records)
  }

  /** Makes all schedules in a state that has its tasks already: they are what keeps a tick from being made again. */
  async restore(state: State): Promise<void> {
    const schedules = new Map<string, Schedule>()
    const lasts = new Map<string, Last>()
    for await (const { records } of this.#log.read(this.#topic, new Map())) {
      for (const { key, value } of records) {
        const id = key?.toString() ?? ''
        const read = jsonOf(value) as Schedule | Last | null
        if (read === null) schedules.delete(id)
        else if ('schedule' in read) lasts.set(read.schedule, read)
        else schedules.set(id, read)
      }
    }
    for (const schedule of schedules.values()) {
      await state.schedules({ keep: withLast(schedule, lasts.get(schedule.id)) })
    }
  }

  #record(key: string, value: Schedule | Last | null): LogRecord {
    return { topic: this.#topic, key, value: value && JSON.stringify(value) }
  }
}

function lastKey(id: string): string {
  return `${id} last`
}

/** A schedule goes on behind its last tick; one of an earlier schedule of the same id does not count. */
function withLast(schedule: Schedule, last: Last | undefined): Schedule {
  if (!last || last.at < schedule.createdAt) return schedule
  const after = schedule.nextAt === null ? null : nextTick(schedule.timing, last.at)
  const nextAt = after === null ? null : Math.max(schedule.nextAt!, after)
  return { ...schedule, nextAt, lastAt: last.at, lastTaskId: last.task }
}
