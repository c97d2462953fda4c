import { createHash } from 'node:crypto'

/** Workers with more types than this, in one partition, send a digest of them. */
const NAMED_MAX = 64

/** The types of a worker in one partition. */
interface Typeset {
  types: string[]
  /** '' if there are few. */
  typeset: string
}

/** Lists of types by partition. A worker asks with the same list at each turn, so it is split once. */
export class Typesets {
  readonly #split = new WeakMap<readonly string[], Map<number, Typeset>>()
  readonly #partitionOf: (type: string) => number

  constructor(partitionOf: (type: string) => number) {
    this.#partitionOf = partitionOf
  }

  byPartition(types: readonly string[]): ReadonlyMap<number, Typeset> {
    const known = this.#split.get(types)
    if (known) return known
    const split = new Map<number, Typeset>()
    for (const [partition, some] of Map.groupBy(types, this.#partitionOf)) {
      split.set(partition, { types: some, typeset: some.length > NAMED_MAX ? digestOf(some) : '' })
    }
    this.#split.set(types, split)
    return split
  }
}

function digestOf(types: readonly string[]): string {
  return createHash('sha1')
    .update(JSON.stringify([...types].sort()))
    .digest('hex')
}
