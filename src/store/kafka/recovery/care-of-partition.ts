import type { State } from '../../state.ts'
import type { Log } from '../client/log.ts'
import type { Topics } from '../client/topics.ts'
import type { Relay } from '../events/relay.ts'
import type { DeadLetters } from '../records/dead-letters.ts'
import { acceptedOf, acceptedRecord, readable } from '../records/records.ts'
import type { Entry, LaneCare } from './lane-partition.ts'
import type { Lost, Restorer } from './restorer.ts'

interface Parts {
  state: State
  log: Log
  topics: Topics
  relay: Relay
  deadLetters: DeadLetters
  restorer: Restorer
  /** @throws XQueueError `engine_unavailable` while the state is being restored */
  refuseUnlessWhole: () => Promise<void>
}

/** What is done for the tasks of a partition, with the log and the state. */
export class CareOfPartition implements LaneCare {
  readonly #parts: Parts
  readonly #topic: string
  readonly #partition: number

  constructor(parts: Parts, topic: string, partition: number) {
    this.#parts = parts
    this.#topic = topic
    this.#partition = partition
  }

  caughtUp(since: number): Promise<void> {
    return this.#parts.relay.caughtUp(since)
  }

  async park(ids: readonly string[]): Promise<ReadonlySet<string>> {
    const { state, log, topics } = this.#parts
    const tasks = (await state.get(ids)).filter((task) => task !== null)
    const asked = { delayMs: 0, runAt: null }
    await log.write(tasks.map((task) => acceptedRecord(topics.parked, task, { ...asked, after: task.after })))
    return new Set(tasks.map(({ id }) => id))
  }

  async repair(entries: readonly Entry[]): Promise<ReadonlySet<bigint>> {
    const { state, log, relay, deadLetters, restorer, refuseUnlessWhole } = this.#parts
    const [topic, partition] = [this.#topic, this.#partition]
    await refuseUnlessWhole()
    // Afterwards, every task that had ended before the query is on its topic.
    await relay.caughtUp(state.incarnation)
    // A task that is no longer in the topic is done.
    const done = new Set(entries.map(({ offset }) => offset))
    const lost: Lost[] = []
    for await (const { records } of log.read(topic, new Map([[partition, entries[0]!.offset]]), [partition])) {
      for (const record of records) {
        if (!done.has(record.offset)) continue
        const remembered = readable(() => acceptedOf(record.value))
        const location = { topic, partition, record }
        if (remembered instanceof Error) await deadLetters.write([{ ...location, error: remembered }])
        else lost.push({ remembered, location })
      }
    }
    const ended = await restorer.repair(lost)
    for (const { remembered, location } of lost) if (!ended.has(remembered.task.id)) done.delete(location.record.offset)
    return done
  }
}
