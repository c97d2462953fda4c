import { elementsOf, withoutContents } from '../../erasure.ts'
import type { ChangeOutcome, StoreOptions } from '../../store.ts'
import type { Database } from '../client/database.ts'
import { eraseRecord } from '../events/event-records.ts'
import { type OutboxPage, readOutbox } from '../events/outbox-page.ts'
import { nameOf, type Place, placeOf } from '../records/ids.ts'

const ENTRIES_AT_ONCE = 100
const BYTES_AT_ONCE = 1024 * 1024

/** Maximum difference of the clocks of two machines when one takes over from the other. */
const SKEW_MS = 10_000

/**
 * Erases finished tasks: first their contents in events, so that an interrupted erasure can be repeated, then the task
 * with the copies of its result, in the step that checks that it is finished.
 */
export class Erasure {
  readonly #database: Database
  readonly #options: StoreOptions

  constructor(database: Database, options: StoreOptions) {
    this.#database = database
    this.#options = options
  }

  async erase(ids: readonly string[]): Promise<ChangeOutcome[]> {
    const outcomes: ChangeOutcome[] = []
    for (const id of ids) {
      const place = placeOf(id)
      outcomes.push(place && place.partition < this.#database.count ? await this.#eraseOne(place) : 'unknown')
    }
    return outcomes
  }

  async #eraseOne(place: Place): Promise<ChangeOutcome> {
    const { partition, ref } = place
    const found = await this.#run(partition, 'check', ref)
    if (found.outcome !== 'changed') return found.outcome as ChangeOutcome
    await this.#eraseEvents(place, Number(found.first))
    let erased = await this.#run(partition, 'task', ref)
    while (erased.outcome === 'more') erased = await this.#run(partition, 'task', ref)
    for (const copy of erased.copies) {
      const slash = copy.indexOf('/')
      await this.#run(Number(copy.slice(0, slash)), 'copy', copy.slice(slash + 1), nameOf(place), erased.first!)
    }
    return erased.outcome as ChangeOutcome
  }

  /** One item of the step: its outcome, when the task ended or the text that replaces copies, and the copies. */
  async #run(partition: number, what: 'check' | 'task' | 'copy', ...item: string[]) {
    const args = [this.#options.retention.ageMs, what, 1, ...item]
    const [answer] = await this.#database.run<(string | string[])[]>('erase', partition, args)
    const [outcome, first, ...copies] = answer === 'done' ? ['changed'] : answer!
    return { outcome, first, copies }
  }

  /** Events of a task lie between its acceptance and its end, so only those are read. */
  async #eraseEvents({ partition, ref }: Place, endedAt: number): Promise<void> {
    const name = `"${ref}"`
    const acceptedAt = Number(ref.slice(ref.indexOf('.') + 1, ref.indexOf('-')))
    for (let after = await this.#placeBefore(partition, acceptedAt - SKEW_MS); ; ) {
      const { entries } = await this.#entries(partition, after, ENTRIES_AT_ONCE)
      const rewritten: string[] = []
      for (const { last, records } of entries) {
        if (records.includes(ref)) {
          const erased = withoutContents(records, (record) =>
            record.includes(ref) ? eraseRecord(elementsOf(record), ref, name) : null,
          )
          if (erased !== records) rewritten.push(String(last), erased)
        }
        after = last
      }
      if (rewritten.length > 0) await this.#database.run('rewrite', partition, [rewritten.length / 2, ...rewritten])
      const newest = entries.at(-1)
      if (newest === undefined || newest.at > endedAt + SKEW_MS) return
    }
  }

  /** A position in the outbox before all events from a time on. */
  async #placeBefore(partition: number, time: number): Promise<number> {
    const { before, last } = await this.#entries(partition, '', 1)
    let [low, high] = [before, Number(last)]
    while (low < high) {
      const middle = Math.floor((low + high) / 2)
      const [entry] = (await this.#entries(partition, middle, 1)).entries
      if (entry && entry.at < time) low = Math.max(entry.last, middle + 1)
      else high = middle
    }
    return low
  }

  #entries(partition: number, after: number | '', max: number): Promise<OutboxPage> {
    return readOutbox(this.#database, partition, { after: String(after), max, stays: false, bytesMax: BYTES_AT_ONCE })
  }
}
