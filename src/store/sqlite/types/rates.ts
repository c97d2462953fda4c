import { GatheredRates, mergeHistogram, PERCENTILE_SLOTS, type RecentRates, RecentSlots, SLOT_MS } from '../../rates.ts'
import type { Database } from '../database/database.ts'

const KEPT_SLOTS = 360

/** The rates of all processes, kept in the file. */
export class Rates extends GatheredRates {
  readonly #database: Database

  constructor(database: Database) {
    super()
    this.#database = database
  }

  /** Adds the gathered statistics to the file; call it inside a transaction. */
  write(now: number): void {
    const number = Math.floor(now / SLOT_MS)
    for (const [type, slot] of this.take()) {
      const row = this.#database.get('rateSlot', type, number)
      if (row) {
        slot.finished += row.finished as number
        mergeHistogram(slot.wait, JSON.parse(row.wait as string))
        mergeHistogram(slot.run, JSON.parse(row.run as string))
      }
      this.#database.run(
        'putRateSlot',
        type,
        number,
        slot.finished,
        JSON.stringify(slot.wait),
        JSON.stringify(slot.run),
      )
    }
    this.#database.run('dropRates', number - KEPT_SLOTS)
  }

  /** @param types default all */
  recent(now: number, types?: readonly string[]): Map<string, RecentRates> {
    const recent = new RecentSlots(now)
    const since = Math.floor(now / SLOT_MS) - PERCENTILE_SLOTS
    const rows = types?.flatMap((type) => this.#database.all('recentRatesOf', since, type))
    for (const row of rows ?? this.#database.all('recentRates', since)) {
      const [wait, run] = [JSON.parse(row.wait as string), JSON.parse(row.run as string)]
      recent.add(row.type as string, row.slot as number, { finished: row.finished as number, wait, run })
    }
    return recent.rates()
  }
}
