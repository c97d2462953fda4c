import {
  ALL_TYPES,
  addFigures,
  figuresOf,
  figuresText,
  type HistoryQuery,
  type HistorySlot,
  noFigures,
  RINGS,
} from '../../history.ts'
import { GatheredRates, SLOT_MS } from '../../rates.ts'
import { tooManyLimits } from '../../refusals.ts'
import type { HandlerSettings, LimitSettings, TypeChange } from '../../store.ts'
import { changedType, NEW_TYPE } from '../../type-record.ts'
import type { Database } from '../client/database.ts'
import type { NamedLimits } from '../limits/named-limits.ts'
import { type BackOff, hasHandler, readBackOff, readType, type TypeFields, writeType } from './type-fields.ts'

/** A back-off is read again after this time, in case the message of its change was lost. */
const CACHE_MS = 10_000
/** Maximum number of types in one step. */
const TYPES_AT_ONCE = 500

type Change = readonly [type: string, change: TypeChange]
interface Replacement {
  of: Change
  /** Of configure.lua. */
  args: string[]
}
/** An answer of types.lua. */
type StoredType = [digest: string, fields: TypeFields]

/** The rules of types, and the statistics that this process gathers. */
export class Registry {
  readonly rates = new GatheredRates()
  readonly #database: Database
  readonly #limits: NamedLimits
  /** The handlers that this process declared, in case Redis loses them. */
  readonly #declared = new Map<string, HandlerSettings>()
  readonly #backOffs = new Map<string, BackOff & { at: number }>()

  constructor(database: Database, limits: NamedLimits) {
    this.#database = database
    this.#limits = limits
  }

  /** The back-off of a type that `know` has read. */
  policy(type: string): BackOff {
    return this.#backOffs.get(type) ?? readBackOff('')
  }

  async know(types: readonly string[]): Promise<void> {
    const now = Date.now()
    const unknown = [...new Set(types)].filter((type) => now - (this.#backOffs.get(type)?.at ?? 0) > CACHE_MS)
    for (const [partition, some] of Map.groupBy(unknown, (type) => this.#database.partitionOf(type))) {
      for (let from = 0; from < some.length; from += TYPES_AT_ONCE) {
        const asked = some.slice(from, from + TYPES_AT_ONCE)
        const answers = await this.#database.run<(string | null)[]>('back_offs', partition, [asked.length, ...asked])
        answers.forEach((text, index) => {
          this.#backOffs.set(asked[index]!, { ...readBackOff(text ?? ''), at: now })
        })
      }
    }
  }

  /** A type was changed, by this process or another. */
  forget(type: string): void {
    this.#backOffs.delete(type)
  }

  /** Returns false for a change of a type that does not exist. */
  async configure(type: string, change: TypeChange): Promise<boolean> {
    const unknown = await this.#configure(this.#database.partitionOf(type), [[type, change]])
    return unknown.length === 0
  }

  /** Declares this process's handlers. */
  async declare(handlers: ReadonlyMap<string, HandlerSettings>): Promise<void> {
    await this.#tell(handlers)
  }

  /** Redis may have lost the last declarations, or everything. */
  async tellAgain(): Promise<void> {
    const declared = [...this.#declared]
    for (let from = 0; from < declared.length; from += TYPES_AT_ONCE) {
      await this.#tell(new Map(declared.slice(from, from + TYPES_AT_ONCE)), true)
    }
  }

  async #tell(handlers: ReadonlyMap<string, HandlerSettings>, ifMissing = false): Promise<void> {
    const changes = [...handlers].map(([type, handler]) => [type, { handler }] as const)
    for (const [partition, some] of Map.groupBy(changes, ([type]) => this.#database.partitionOf(type))) {
      await this.#configure(partition, some, ifMissing)
    }
  }

  /**
   * Reads the records of the types, changes them, and replaces each that is still the one that was read; repeats this
   * for the others. Returns the types that do not exist.
   *
   * @param ifMissing does not change a type that a handler has already declared
   */
  async #configure(partition: number, changes: readonly Change[], ifMissing = false): Promise<string[]> {
    if (changes.some(([, { handler, declared }]) => handler || declared)) await this.#database.partitions.add(partition)
    const unknown: string[] = []
    for (let left = changes; left.length > 0; ) {
      const stored = await this.#database.run<StoredType[]>('types', partition, [
        left.length,
        ...left.map(([type]) => type),
      ])
      const next: Replacement[] = []
      for (const [index, [type, change]] of left.entries()) {
        const [digest, fields] = stored[index]!
        const [exists, isHandled] = [digest !== '', digest !== '' && hasHandler(fields)]
        if (!exists && !change.handler && !change.declared) unknown.push(type)
        else if (!(ifMissing && isHandled)) {
          const after = changedType(exists ? readType(fields) : NEW_TYPE, change)
          const byHandler = change.handler !== undefined
          const record = writeType(after, isHandled || byHandler)
          next.push({ of: [type, change], args: [digest, byHandler ? '1' : '', ...record] })
        }
      }
      left = next.length > 0 ? await this.#replace(partition, next) : []
    }
    for (const [type, { handler }] of changes) {
      this.forget(type)
      if (handler) this.#declared.set(type, handler)
    }
    return unknown
  }

  /** Returns the changes whose types have changed since they were read. */
  async #replace(partition: number, next: readonly Replacement[]): Promise<Change[]> {
    const names = next.map(({ of: [type] }) => type)
    const limits = await this.#limits.declared(partition, limitsOf(next))
    const args = [
      this.#database.wasMet(partition),
      ...limits,
      names.length,
      ...names,
      ...next.flatMap(({ args }) => args),
    ]
    const answers = await this.#database.run<string[]>('configure', partition, args)
    this.#database.met(partition)
    if (answers[0] === 'too_many') throw tooManyLimits()
    if (answers[0] === 'changed') return next.map(({ of }) => of)
    return next.flatMap(({ of }, index) => (answers[index] === '1' ? [] : [of]))
  }

  /** Adds the gathered statistics to those of all processes. */
  async writeRates(): Promise<void> {
    const byPartition = new Map<number, string[]>()
    for (const [type, { finished, wait, run }] of this.rates.take(this.#database.now())) {
      const partition = this.#database.partitionOf(type)
      const fields = byPartition.get(partition) ?? []
      byPartition.set(partition, fields)
      if (finished > 0) fields.push(`${type} f`, String(finished))
      for (const [letter, histogram] of [
        ['w', wait],
        ['r', run],
      ] as const) {
        histogram.forEach((n, bucket) => {
          if (n > 0) fields.push(`${type} ${letter}${bucket}`, String(n))
        })
      }
    }
    const slot = Math.floor(this.#database.now() / SLOT_MS)
    for (const [partition, fields] of byPartition) {
      await this.#database.run('rates', partition, [slot, fields.length / 2, ...fields])
    }
    if (this.rates.history.isDue(this.#database.now())) await this.writeHistory()
  }

  /**
   * Adds the figures of the last seconds to the rings.
   *
   * @param everywhere also in partitions of which this process has none, which may have ends without a worker
   */
  async writeHistory(everywhere = false): Promise<void> {
    const { at, types } = this.rates.history.take(this.#database.now())
    const rings = Object.entries(RINGS).flatMap(([ring, { slotMs, slots }]) => [
      ring,
      Math.floor(at / slotMs),
      Math.ceil((slotMs * (slots + 1)) / 1_000),
    ])
    const byPartition = Map.groupBy(types, ([type]) => this.#database.partitionOf(type))
    for (const partition of everywhere ? this.#database.perPartition((each) => each) : byPartition.keys()) {
      const some = byPartition.get(partition) ?? []
      const all = noFigures()
      for (const [, figures] of some) addFigures(all, figures)
      const texts = [[ALL_TYPES, all] as const, ...some].flatMap(([type, figures]) => [type, figuresText(figures)])
      await this.#database.run('history', partition, [rings.length / 3, ...rings, texts.length / 2, ...texts])
    }
  }

  /** Slots of a ring, oldest first; of all types they are the sums over the partitions. */
  async readHistory({ ring, type }: HistoryQuery): Promise<HistorySlot[]> {
    const { slotMs, slots } = RINGS[ring]
    const last = Math.floor(this.#database.now() / slotMs)
    const partitions = type === ALL_TYPES ? this.#database.perPartition((at) => at) : [this.#database.partitionOf(type)]
    const sums = new Map<number, HistorySlot>()
    const args = [ring, last - slots + 1, last, type]
    for (const partition of partitions) {
      const answer = await this.#database.run<(string | number)[]>('history_of', partition, args)
      for (let at = 0; at < answer.length; at += 2) {
        const slot = Number(answer[at])
        const sum = sums.get(slot) ?? { slot, ...noFigures() }
        addFigures(sum, figuresOf(String(answer[at + 1])))
        sums.set(slot, sum)
      }
    }
    return [...sums.values()].sort((a, b) => a.slot - b.slot)
  }
}

/** The named limits that handlers declare. */
function limitsOf(next: readonly Replacement[]): Map<string, LimitSettings> {
  return new Map(next.flatMap(({ of: [, { handler }] }) => Object.entries(handler?.limits ?? {})))
}
