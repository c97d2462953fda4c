import { mergeHistogram } from '../../histogram.ts'
import {
  ALL_TYPES,
  addFigures,
  figuresOf,
  figuresText,
  HISTORY_TYPES_MAX,
  type HistoryQuery,
  type HistorySlot,
  noFigures,
  RINGS,
} from '../../history.ts'
import { GatheredRates, PERCENTILE_SLOTS, type RecentRates, RecentSlots, SLOT_MS } from '../../rates.ts'
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
    for (const [type, slot] of this.take(now)) {
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
    if (this.history.isDue(now)) this.writeHistory(now)
  }

  /** Adds the figures of the last seconds to the rings. */
  writeHistory(now: number): void {
    const { at, types } = this.history.take(now)
    const all = noFigures()
    for (const [, figures] of types) addFigures(all, figures)
    for (const [ring, { slotMs, slots }] of Object.entries(RINGS)) {
      const number = Math.floor(at / slotMs)
      for (const [type, figures] of [[ALL_TYPES, all] as const, ...types]) {
        const row = this.#database.get('historySlot', ring, type, number)
        if (!row && type !== ALL_TYPES && this.#isFull(ring, number)) continue
        const sum = row ? figuresOf(row.body as string) : noFigures()
        addFigures(sum, figures)
        this.#database.run('putHistorySlot', ring, type, number, figuresText(sum))
      }
      this.#database.run('dropHistory', ring, number - slots)
    }
  }

  /** Slots of the ring of a type, oldest first. */
  readHistory(now: number, { ring, type }: HistoryQuery): HistorySlot[] {
    const { slotMs, slots } = RINGS[ring]
    const rows = this.#database.all('historyOf', ring, type, Math.floor(now / slotMs) - slots)
    return rows.map(({ slot, body }) => ({ slot: slot as number, ...figuresOf(body as string) }))
  }

  #isFull(ring: string, number: number): boolean {
    return (this.#database.get('typesInHistory', ring, number)!.n as number) > HISTORY_TYPES_MAX
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
