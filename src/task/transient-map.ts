/**
 * A map for values that come and go all the time. V8 links each former table of a `Map` to the next one, so once such a
 * table is in the old generation, all values that were deleted since survive until the next full collection. Here the
 * tables contain places in an array, not values.
 */
export class TransientMap<T extends object> {
  readonly #places = new Map<string, number>()
  readonly #values: (T | undefined)[] = []
  readonly #free: number[] = []

  get size(): number {
    return this.#places.size
  }

  get(key: string): T | undefined {
    const place = this.#places.get(key)
    return place === undefined ? undefined : this.#values[place]
  }

  /** Adds a value, or replaces the one of its key. */
  set(key: string, value: T): void {
    let place = this.#places.get(key)
    if (place === undefined) {
      place = this.#free.pop() ?? this.#values.length
      this.#places.set(key, place)
    }
    this.#values[place] = value
  }

  /** Removes a value, and returns it. */
  take(key: string): T | undefined {
    const place = this.#places.get(key)
    if (place === undefined) return undefined
    const value = this.#values[place]
    this.#places.delete(key)
    this.#values[place] = undefined
    this.#free.push(place)
    return value
  }

  values(): T[] {
    return [...this.#places.values()].map((place) => this.#values[place]!)
  }

  clear(): void {
    this.#places.clear()
    this.#values.length = 0
    this.#free.length = 0
  }
}
