import { TASK_LIMITS, type Task, type TaskSpec } from '../../../task/task.ts'
import type { StoreOptions } from '../../options.ts'
import { tooManySuccessors, unknownTypes } from '../../refusals.ts'
import type { Submitted } from '../../store.ts'
import type { Database } from '../client/database.ts'
import type { NamedLimits } from '../limits/named-limits.ts'
import { type Numbers, nameOf, placeOf } from '../records/ids.ts'
import type { Queries } from '../scan/queries.ts'
import { Submissions } from './submissions.ts'
import { type Call, PREDECESSOR } from './submit-codec.ts'

const NONE: readonly string[] = []
const NONE_MISSING: ReadonlySet<string> = new Set()

/** Accepts submissions: each batch goes to the partitions of its types. */
export class Submitter {
  readonly #database: Database
  readonly #queries: Queries
  readonly #registered: () => Promise<string[]>
  readonly #submissions: Submissions[]

  /** @param registered returns the known types */
  constructor(
    database: Database,
    queries: Queries,
    options: StoreOptions,
    numbers: Numbers,
    registered: () => Promise<string[]>,
    limits: NamedLimits,
  ) {
    this.#database = database
    this.#queries = queries
    this.#registered = registered
    this.#submissions = database.perPartition(
      (at) => new Submissions(database, at, options, numbers, registered, limits),
    )
  }

  async submit(specs: readonly TaskSpec[]): Promise<Submitted[]> {
    const [first] = specs
    if (!first) return []
    const partition = this.#database.partitionOf(first.type)
    const missing = this.#database.count === 1 ? NONE_MISSING : await this.#missing(specs)
    // The full check is needed only where types lie in several partitions.
    if (this.#database.count > 1 && specs.some(({ type }) => type !== first.type)) {
      const byPartition = Map.groupBy(specs.keys(), (index) => this.#database.partitionOf(specs[index]!.type))
      if (byPartition.size > 1) return this.#spread(specs, byPartition, missing)
    }
    const after = specs.map((spec) =>
      spec.after.length === 0 ? NONE : spec.after.map((id) => this.#nameIn(id, missing, PREDECESSOR.ofCall)),
    )
    return this.#to(partition, { specs, after })
  }

  /**
   * Submits a batch whose types lie in several partitions. Every possible refusal is checked in all of them before the
   * first task is written; then each task is accepted after its predecessors of other partitions.
   */
  async #spread(
    specs: readonly TaskSpec[],
    byPartition: ReadonlyMap<number, number[]>,
    missing: ReadonlySet<string>,
  ): Promise<Submitted[]> {
    const submitted: Submitted[] = []
    const callOf = (indexes: readonly number[], nameElsewhere: (place: number) => string): Call => {
      const places = new Map(indexes.map((index, at) => [index, at]))
      const nameAt = (place: number) =>
        places.has(place) ? PREDECESSOR.ofCall(places.get(place)!) : nameElsewhere(place)
      const some = indexes.map((index) => specs[index]!)
      return { specs: some, after: some.map((spec) => spec.after.map((id) => this.#nameIn(id, missing, nameAt))) }
    }
    const unknown = await Promise.all(
      [...byPartition].map(([partition, indexes]) =>
        this.#submissions[partition]!.check(
          callOf(indexes, () => PREDECESSOR.elsewhere),
          indexes,
        ),
      ),
    )
    const types = new Set(unknown.flat())
    if (types.size > 0) throw unknownTypes(specs, types, await this.#registered())
    for (const wave of this.#wavesOf(specs)) {
      const here = Map.groupBy(wave, (index) => this.#database.partitionOf(specs[index]!.type))
      await Promise.all(
        [...here].map(async ([partition, indexes]) => {
          const call = callOf(indexes, (place) => nameOf(placeOf(submitted[place]!.task.id)!))
          const some = await this.#to(partition, call)
          some.forEach((one, at) => {
            submitted[indexes[at]!] = one
          })
        }),
      )
    }
    return submitted
  }

  /** Positions of a batch's tasks by wave: tasks of a wave wait for tasks of other partitions only in earlier waves. */
  #wavesOf(specs: readonly TaskSpec[]): number[][] {
    const waves: number[][] = []
    const waveOf: number[] = []
    specs.forEach(({ type, after }, index) => {
      const partition = this.#database.partitionOf(type)
      const least = after.map((place) => {
        if (typeof place === 'string') return 0
        return waveOf[place]! + (this.#database.partitionOf(specs[place]!.type) === partition ? 0 : 1)
      })
      const wave = Math.max(0, ...least)
      waveOf.push(wave)
      waves[wave] ??= []
      waves[wave].push(index)
    })
    return waves
  }

  #nameIn(id: string | number, missing: ReadonlySet<string>, nameAt: (place: number) => string): string {
    if (typeof id === 'number') return nameAt(id)
    const place = missing.has(id) ? null : placeOf(id)
    return place ? nameOf(place) : PREDECESSOR.missing
  }

  /**
   * Returns predecessors in other partitions that do not exist; a partition checks its own. The number of successors
   * there is known once these are registered.
   * @throws XQueueError `too_many_successors`
   */
  async #missing(specs: readonly TaskSpec[]): Promise<ReadonlySet<string>> {
    const named = specs.flatMap(({ type, after }) => {
      if (after.length === 0) return []
      const partition = this.#database.partitionOf(type)
      return after.filter((id) => typeof id === 'string').filter((id) => placeOf(id)?.partition !== partition)
    })
    if (named.length === 0) return NONE_MISSING
    const missing = new Set<string>()
    const byId = Map.groupBy(named, (id) => id)
    for (const [partition, ids] of Map.groupBy(byId.keys(), (id) => placeOf(id)?.partition)) {
      const refs = ids.map((id) => placeOf(id)?.ref ?? '')
      const isOurs = partition !== undefined && partition < this.#database.count
      const waiting = isOurs
        ? await this.#database.run<(number | null)[]>('count_successors', partition, [refs.length, ...refs])
        : refs.map(() => null)
      ids.forEach((id, index) => {
        const there = waiting[index]!
        if (there === null) missing.add(id)
        else if (there + byId.get(id)!.length > TASK_LIMITS.successorsMax) throw tooManySuccessors(id)
      })
    }
    return missing
  }

  async #to(partition: number, call: Call): Promise<Submitted[]> {
    const { submitted, earlier } = await this.#submissions[partition]!.add(call)
    if (earlier.size === 0) return submitted as Submitted[]
    const tasks = await this.#queries.get([...earlier.values()])
    const places = [...earlier.keys()]
    tasks.forEach((task, index) => {
      submitted[places[index]!] = { task: task as Task, existing: true }
    })
    return submitted as Submitted[]
  }
}
