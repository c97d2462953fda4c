import { familyOf, hasUnits, isOfGroup, nameOfGroupLimit, typeOfGroupLimit, type Uses } from '../../../task/uses.ts'
import type { LimitHolder } from '../../facts.ts'
import { changedLimit, createsLimit, type LimitRecord, NEW_LIMIT } from '../../limit-record.ts'
import { limitInUse, limitNotPlaceable, tooManyLimits, unknownLimit } from '../../refusals.ts'
import type { LimitChange, LimitFacts, LimitSettings } from '../../store.ts'
import type { Database } from '../client/database.ts'
import { idOfRef } from '../records/ids.ts'
import { extrasOfLease, leaseOf, typeOfLane } from '../records/rows.ts'
import { type LimitFields, NO_LIMIT, readLimit, writeLimit } from './limit-fields.ts'
import { LimitHomes } from './limit-homes.ts'

/** Limits of one step. */
const LIMITS_AT_ONCE = 500
/** Waiting tasks are counted up to this number. */
const WAITING_MAX = 10_000
/** In a cluster, a limit that no type uses yet is in the first partition, under its name behind this text. */
const FIRST = 0
const UNPLACED = '\u0001'

/** An answer of limits.lua. */
type LimitReply = [name: string, settings: string, held: string, familySettings: string, familyHeld: string]
type LimitAnswer = 'done' | 'changed' | 'too_many' | 'in_use'
/** An answer of limit_facts.lua. */
type FactsReply = [
  inUse: number,
  unfinished: number,
  notReady: number,
  leases: number,
  opensAt: string,
  holders: [units: string, ref: string, lane: string, lease: string][],
  waiters: string[],
]

interface StoredLimit {
  name: string
  own: LimitFields
  family: LimitFields
}

/** Named limits: their settings, and what is in use of them. Claims check them, see limits.lua. */
export class NamedLimits {
  readonly #database: Database
  readonly #homes: LimitHomes

  constructor(database: Database) {
    this.#database = database
    this.#homes = new LimitHomes(database)
  }

  /**
   * Creates, changes or removes a limit.
   * @throws XQueueError `unknown_limit`, `limit_in_use`, `too_many_limits`
   */
  async configure(name: string, change: LimitChange): Promise<void> {
    for (;;) {
      const home = await this.#homeOf(name)
      const partition = home ?? FIRST
      if (home === null) await this.#database.partitions.add(FIRST)
      const [stored] = await this.#read(partition, [home === null ? UNPLACED + name : name])
      const after = change.remove ? removed(stored!) : changed(stored!, change)
      const mustBeUnused = change.remove && !isOfGroup(name) ? '1' : ''
      const answer = await this.#put(partition, stored!, after, mustBeUnused)
      // A type that used it first in the meantime has taken its settings from before.
      if (answer === 'done' && (home !== null || (await this.#homeOf(name)) === null)) return
      if (answer === 'in_use') throw limitInUse(name)
      if (answer === 'too_many') throw tooManyLimits()
    }
  }

  /**
   * The arguments of configure.lua for the limits that handlers declare.
   * @throws XQueueError `limit_not_placeable`
   */
  async declared(partition: number, limits: ReadonlyMap<string, LimitSettings>): Promise<(string | number)[]> {
    if (limits.size === 0) return [0]
    await this.#take([...limits.keys()], partition)
    const stored = await this.#read(partition, [...limits.keys()])
    const changes = stored.flatMap((one) => {
      const before = readLimit(one.own)
      const after = writeLimit(changedLimit(before ?? NEW_LIMIT, { handler: limits.get(one.name)! }))
      return before && after.settings === one.own.settings ? [] : [replacementOf(one.name, one.own, after)]
    })
    return [changes.length, ...changes.flat()]
  }

  /**
   * Tasks of a partition use limits that it does not know: takes those that no other partition has. Returns whether it
   * knows more of them now.
   * @throws XQueueError `limit_not_placeable`
   */
  async use(names: readonly string[], partition: number): Promise<boolean> {
    if (this.#database.count === 1) return false
    const homes = await this.#homes.of(names)
    const elsewhere = names.find((name) => (homes.get(name) ?? partition) !== partition)
    if (elsewhere !== undefined) throw limitNotPlaceable(elsewhere)
    const unplaced = names.map((name) => UNPLACED + name)
    const known = (await this.#read(FIRST, unplaced)).flatMap(({ name, own, family }) => {
      return own.settings === '' && family.settings === '' ? [] : [placedName(name)]
    })
    await this.#take(known, partition)
    return known.length > 0
  }

  /** @param which names, all that have settings, or the uses of a task */
  async facts(which: readonly string[] | 'all' | Uses, withHolders: boolean): Promise<LimitFacts[]> {
    if (which === 'all') {
      const partitions = await this.#database.partitions.used()
      const all = await Promise.all(partitions.map((partition) => this.#factsIn(partition, 'all', {}, withHolders)))
      return all.flat().sort((a, b) => (a.name < b.name ? -1 : 1))
    }
    const [names, uses] = isNames(which) ? [which, {}] : [Object.keys(which), which]
    if (names.length === 0) return []
    const homes = await this.#homesOf(names)
    const stored = names.map((name) => (homes.get(name) === null ? UNPLACED + name : name))
    const byPartition = Map.groupBy(stored, (name) => homes.get(placedName(name)) ?? FIRST)
    const found = await Promise.all([...byPartition].map(([at, some]) => this.#factsIn(at, some, uses, withHolders)))
    const byName = new Map(found.flat().map((one) => [one.name, one]))
    return names.flatMap((name) => byName.get(name) ?? [])
  }

  async #factsIn(
    partition: number,
    names: readonly string[] | 'all',
    uses: Uses,
    withHolders: boolean,
  ): Promise<LimitFacts[]> {
    const now = this.#database.now()
    const stored = await this.#read(partition, names)
    const found = stored.flatMap(({ name, own, family }) => {
      const record = readLimit(own) ?? readLimit(family)
      const held = own.settings === '' ? [own.held, family.held] : [own.held]
      return record ? [{ name, record, heldUntil: Math.max(...held.map(Number)) }] : []
    })
    const answers: FactsReply[] = []
    const flags = [withHolders ? '1' : '', withHolders && names !== 'all' ? '1' : '']
    for (let from = 0; from < found.length; from += LIMITS_AT_ONCE) {
      const some = found.slice(from, from + LIMITS_AT_ONCE)
      const each = some.flatMap(({ name }) => [name, Object.hasOwn(uses, name) ? uses[name]! : 1])
      answers.push(
        ...(await this.#database.run<FactsReply[]>('limit_facts', partition, [...flags, some.length, ...each])),
      )
    }
    return found.map((one, index) => factsOf(partition, one, answers[index]!, now))
  }

  /** The limit of one group of a type, whose common one is `each`. */
  async ofGroup(type: string, group: string, each: number | null): Promise<number | null> {
    const [stored] = await this.#read(this.#database.partitionOf(type), [nameOfGroupLimit(type, group)])
    const own = readLimit(stored!.own)
    return own ? own.max : each
  }

  async #read(partition: number, names: readonly string[] | 'all'): Promise<StoredLimit[]> {
    if (names.length === 0) return []
    const answers: LimitReply[] = []
    if (names === 'all') answers.push(...(await this.#database.run<LimitReply[]>('limits', partition, [''])))
    else {
      for (let from = 0; from < names.length; from += LIMITS_AT_ONCE) {
        const some = names.slice(from, from + LIMITS_AT_ONCE)
        answers.push(...(await this.#database.run<LimitReply[]>('limits', partition, [some.length, ...some])))
      }
    }
    return answers.map(([name, settings, held, familySettings, familyHeld]) => {
      return { name, own: { settings, held }, family: { settings: familySettings, held: familyHeld } }
    })
  }

  /** The partitions of limits; null for one that no type uses yet. */
  async #homesOf(names: readonly string[]): Promise<Map<string, number | null>> {
    const homes = await this.#homes.of(names.filter((name) => !isOfGroup(name)))
    for (const name of names) {
      if (!isOfGroup(name)) continue
      homes.set(name, this.#database.partitionOf(typeOfGroupLimit(name)))
    }
    return homes
  }

  async #homeOf(name: string): Promise<number | null> {
    return (await this.#homesOf([name])).get(name)!
  }

  /** Moves settings to the partition of the types that use the limits, from the one where no type has used them. */
  async #take(names: readonly string[], partition: number): Promise<void> {
    if (this.#database.count === 1 || names.length === 0) return
    await this.#homes.place(names, partition)
    const families = new Set(names.map((name) => UNPLACED + (familyOf(name) ?? name)))
    const unplaced = (await this.#read(FIRST, 'all')).filter(({ name }) => families.has(familyOf(name) ?? name))
    for (const stored of unplaced) {
      const none = { ...stored, name: placedName(stored.name), own: NO_LIMIT }
      const answer = await this.#put(partition, none, stored.own)
      if (answer === 'too_many') throw tooManyLimits()
      await this.#put(FIRST, stored, NO_LIMIT)
    }
  }

  #put(partition: number, before: StoredLimit, after: LimitFields, mustBeUnused: '1' | '' = ''): Promise<LimitAnswer> {
    const { name, own } = before
    return this.#database.run<LimitAnswer>('limit', partition, [mustBeUnused, 1, ...replacementOf(name, own, after)])
  }
}

function placedName(name: string): string {
  return name.startsWith(UNPLACED) ? name.slice(UNPLACED.length) : name
}

function isNames(which: readonly string[] | Uses): which is readonly string[] {
  return Array.isArray(which)
}

function factsOf(
  partition: number,
  { name, record, heldUntil }: { name: string; record: LimitRecord; heldUntil: number },
  [inUse, unfinished, notReady, leases, opensAt, holders, waiters]: FactsReply,
  now: number,
): LimitFacts {
  const isCounted = hasUnits(name)
  return {
    ...record,
    name: placedName(name),
    heldUntil: heldUntil > now ? heldUntil : null,
    inUse: isCounted ? inUse : null,
    waiting: isCounted ? Math.min(Math.max(unfinished - notReady - leases, 0), WAITING_MAX) : null,
    nextStartAt: isCounted && opensAt !== '' ? Number(opensAt) : null,
    holders: holdersOf(partition, holders),
    waiters: waiters.map((ref) => idOfRef(partition, ref)),
  }
}

function removed({ name, own }: StoredLimit): LimitFields {
  if (own.settings === '') throw unknownLimit(placedName(name))
  return NO_LIMIT
}

/** A key without settings of its own can be held, and paused, which copies the settings of all keys. */
function changed({ name, own, family }: StoredLimit, change: LimitChange): LimitFields {
  const before = readLimit(own)
  if (before) return writeLimit(changedLimit(before, change))
  if (createsLimit(change)) return writeLimit(changedLimit(NEW_LIMIT, change))
  const ofAll: LimitRecord | null = familyOf(name) === null ? null : readLimit(family)
  if (!ofAll) throw unknownLimit(placedName(name))
  const { paused, heldUntil } = change
  if (paused === undefined && heldUntil !== undefined) return { settings: '', held: String(heldUntil ?? '') }
  return writeLimit(changedLimit(ofAll, change))
}

function replacementOf(name: string, before: LimitFields, after: LimitFields): string[] {
  return [name, before.settings, before.held, after.settings, after.held]
}

function holdersOf(partition: number, holders: FactsReply[5]): LimitHolder[] {
  const found = holders.map(([units, ref, lane, lease]) => {
    const { workerId, startedAt, expiresAt } = leaseOf(lease)
    const { group } = extrasOfLease(lease)
    const taskId = idOfRef(partition, ref)
    return { taskId, type: typeOfLane(lane), workerId, group, since: startedAt, expiresAt, units: Number(units) }
  })
  return found.sort((a, b) => a.since - b.since || (a.taskId < b.taskId ? -1 : 1))
}
