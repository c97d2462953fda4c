import { elementsOf, withoutContents } from '../../erasure.ts'
import type { ChangeOutcome, StoreOptions } from '../../store.ts'
import type { Database } from '../client/database.ts'
import { eraseRecord } from '../events/event-records.ts'
import { type OutboxPage, readOutbox } from '../events/outbox-page.ts'
import { acceptedAtOf, nameOf, placeOf } from '../records/ids.ts'

const ENTRIES_AT_ONCE = 100
const BYTES_AT_ONCE = 1024 * 1024

/** Tasks of one step that changes nothing, and of one that erases. */
const CHECKED_AT_ONCE = 500
const ERASED_AT_ONCE = 50
/** Bounded, so that a long number in a result costs no more than its length. */
const REF = /\d{1,5}\.\d{1,15}-\d{1,10}/g

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
    const outcomes = new Map<string, ChangeOutcome>()
    const places = ids.flatMap((id) => {
      const place = placeOf(id)
      return place && place.partition < this.#database.count ? [{ id, ...place }] : []
    })
    for (const [partition, group] of Map.groupBy(places, (place) => place.partition)) {
      const found = await this.#eraseIn(
        partition,
        group.map(({ ref }) => ref),
      )
      for (const [index, { id }] of group.entries()) outcomes.set(id, found[index]!)
    }
    return ids.map((id) => outcomes.get(id) ?? 'unknown')
  }

  async #eraseIn(partition: number, refs: readonly string[]): Promise<ChangeOutcome[]> {
    const outcomes: ChangeOutcome[] = []
    const finished: { ref: string; endedAt: number; place: number }[] = []
    for (let from = 0; from < refs.length; from += CHECKED_AT_ONCE) {
      const some = refs.slice(from, from + CHECKED_AT_ONCE)
      const answers = await this.#run(
        partition,
        'check',
        some.map((ref) => [ref]),
      )
      answers.forEach(({ outcome, first }, index) => {
        const place = outcomes.push(outcome) - 1
        if (outcome === 'changed') finished.push({ ref: some[index]!, endedAt: Number(first), place })
      })
    }
    if (finished.length > 0) await this.#eraseEvents(partition, finished)
    for (let waiting = finished; waiting.length > 0; ) {
      const some = waiting.slice(0, ERASED_AT_ONCE)
      const items = some.map(({ ref }) => [ref])
      const answers = await this.#run(partition, 'task', items)
      for (const [index, { ref, place }] of some.entries()) {
        const { hasMore, outcome, first, copies } = answers[index]!
        if (hasMore) continue
        outcomes[place] = outcome
        await this.#eraseCopies(partition, ref, copies, first!)
      }
      waiting = [...some.filter((_, index) => answers[index]!.hasMore), ...waiting.slice(ERASED_AT_ONCE)]
    }
    return outcomes
  }

  /** Copies of the result of a task in other partitions. */
  async #eraseCopies(partition: number, ref: string, copies: readonly string[], blank: string): Promise<void> {
    for (const copy of copies) {
      const slash = copy.indexOf('/')
      const item = [copy.slice(slash + 1), nameOf({ partition, ref }), blank]
      await this.#run(Number(copy.slice(0, slash)), 'copy', [item])
    }
  }

  /** Items of the step: the outcome of each, when its task ended or the text that replaces copies, and the copies. */
  async #run(partition: number, what: 'check' | 'task' | 'copy', items: readonly (readonly string[])[]) {
    const args = [this.#options.retention.ageMs, what, items.length, ...items.flat()]
    const answers = await this.#database.run<(string | string[])[]>('erase', partition, args)
    return answers.map((answer) => {
      const [outcome, first, ...copies] = answer === 'done' ? ['changed'] : answer
      return { outcome: outcome as ChangeOutcome, hasMore: outcome === 'more', first, copies }
    })
  }

  /** Events of a task lie between its acceptance and its end, so only those are read, once for all of the tasks. */
  async #eraseEvents(partition: number, finished: readonly { ref: string; endedAt: number }[]): Promise<void> {
    const refs = new Set(finished.map(({ ref }) => ref))
    const names = (text: string) => text.match(REF)?.some((ref) => refs.has(ref)) ?? false
    const acceptedAt = finished.reduce((least, { ref }) => Math.min(least, acceptedAtOf(ref)), Number.POSITIVE_INFINITY)
    const endedAt = finished.reduce((most, { endedAt: at }) => Math.max(most, at), 0)
    for (let after = await this.#placeBefore(partition, acceptedAt - SKEW_MS); ; ) {
      const { entries } = await this.#entries(partition, after, ENTRIES_AT_ONCE)
      const rewritten: string[] = []
      for (const { last, records } of entries) {
        if (names(records)) {
          const erased = withoutContents(records, (record) =>
            names(record) ? eraseRecord(elementsOf(record), refs) : null,
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
