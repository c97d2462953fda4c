/** The settings of a limit, or that it is gone. */
export type LimitState = { name: string } & ({ max: number | null } | { removed: true })

/** Finds the limits whose settings have changed between two looks. */
export class LimitWatch {
  readonly #read: () => Promise<readonly LimitState[]>
  #known = new Map<string, string>()

  constructor(read: () => Promise<readonly LimitState[]>) {
    this.#read = read
  }

  /** Those that are new, have changed or are gone since the last look; at the first one, all. */
  async look(): Promise<LimitState[]> {
    const states = await this.#read()
    const now = new Map(states.map((state) => [state.name, JSON.stringify(state)]))
    const changed = states.filter(({ name }) => now.get(name) !== this.#known.get(name))
    const gone = [...this.#known.keys()].filter((name) => !now.has(name))
    this.#known = now
    return [...changed, ...gone.map((name): LimitState => ({ name, removed: true }))]
  }

  /** The next look finds all. */
  forget(): void {
    this.#known.clear()
  }
}
