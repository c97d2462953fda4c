import { blanked, elementsOf, withoutContents } from '../../erasure.ts'
import type { ChangeOutcome, StoreOptions } from '../../store.ts'
import type { Database } from '../client/database.ts'
import { nameOf, type Place, placeOf } from '../records/ids.ts'

/** Positions of progress, result and error in the record of one task, see event-records.ts. */
const CONTENTS = [5, 6, 7]
const ENTRIES_AT_ONCE = 100
const BYTES_AT_ONCE = 1024 * 1024

/** Maximum difference of the clocks of two machines when one takes over from the other. */
const SKEW_MS = 10_000

/**
 * The last number, the number before the first kept, and before the first ever; of each entry its number, count, time
 * and records.
 */
type Page = [last: string, before: string, birth: string, entries: string[]]

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
    const found = await this.#run(partition, 'look', ref)
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
  async #run(partition: number, what: 'look' | 'task' | 'copy', ...item: string[]) {
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
      for (let at = 0; at < entries.length; at += 4) {
        const [last, body] = [entries[at]!, entries[at + 3]!]
        if (body.includes(ref)) {
          const erased = withoutContents(body, ref, (record) => eraseRecord(record, ref, name))
          if (erased !== body) rewritten.push(last, erased)
        }
        after = last
      }
      if (rewritten.length > 0) await this.#database.run('rewrite', partition, [rewritten.length / 2, ...rewritten])
      if (entries.length === 0 || Number(entries.at(-2)) > endedAt + SKEW_MS) return
    }
  }

  /** A position in the outbox before all events from a time on. */
  async #placeBefore(partition: number, time: number): Promise<string> {
    const { before, last } = await this.#entries(partition, '', 1)
    let [low, high] = [before, last]
    while (low < high) {
      const middle = Math.floor((low + high) / 2)
      const { entries } = await this.#entries(partition, String(middle), 1)
      if (entries.length > 0 && Number(entries[2]) < time) low = Math.max(Number(entries[0]), middle + 1)
      else high = middle
    }
    return String(low)
  }

  async #entries(partition: number, after: string, most: number) {
    const args = [after, most, '', BYTES_AT_ONCE]
    const [last, before, , entries] = await this.#database.run<Page>('events', partition, args)
    return { last: Number(last), before: Number(before), entries }
  }
}

/** Erases a task's contents in a record as event-records.ts reads it: many tasks with the same end, or one. */
function eraseRecord(record: string[], ref: string, name: string): string[] {
  if (record[0] !== '"ended"') return record[3] === name && record.length > 5 ? blanked(record, CONTENTS) : record
  const place = (JSON.parse(record[4]!) as string).split(' ').indexOf(ref)
  if (place < 0) return record
  const results = blanked(elementsOf(record[6]!), [place])
  return record.with(6, `[${results.join(',')}]`)
}
