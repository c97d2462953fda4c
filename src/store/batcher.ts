export interface BatcherOptions<Call> {
  weightOf: (call: Call) => number
  weightMax: number
  underWayMax: number
  /**
   * Minimum time between two trips; default 0. A trip that leaves shortly after another one reaches the store together
   * with it: the store answers both at the same moment and is then idle while the caller processes the answers.
   */
  apartMs?: number
}

/**
 * Group commit: calls that arrive while trips to the store are under way share the next trip. A single call leaves at
 * the end of the tick; under load the groups grow by themselves.
 */
export class Batcher<Call, Answer> {
  readonly #send: (calls: Call[]) => Promise<Answer[]>
  readonly #weightOf: (call: Call) => number
  readonly #weightMax: number
  readonly #underWayMax: number
  readonly #apartMs: number
  #waiting: { call: Call; resolve: (answer: Answer) => void; reject: (error: unknown) => void }[] = []
  #underWay = 0
  #leftAt = 0
  #scheduled = false

  /** @param send makes one trip and returns one answer per call, in order. When it fails, all of its calls fail. */
  constructor(
    send: (calls: Call[]) => Promise<Answer[]>,
    { weightOf, weightMax, underWayMax, apartMs = 0 }: BatcherOptions<Call>,
  ) {
    this.#send = send
    this.#weightOf = weightOf
    this.#weightMax = weightMax
    this.#underWayMax = underWayMax
    this.#apartMs = apartMs
  }

  add(call: Call): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ call, resolve, reject })
      if (this.#scheduled || this.#underWay >= this.#underWayMax) return
      this.#scheduled = true
      queueMicrotask(() => {
        this.#scheduled = false
        this.#leave()
      })
    })
  }

  #leave(): void {
    while (this.#waiting.length > 0 && this.#underWay < this.#underWayMax) {
      if (this.#underWay > 0 && performance.now() - this.#leftAt < this.#apartMs) {
        this.#leaveSoon()
        return
      }
      this.#leftAt = performance.now()
      void this.#trip(this.#next())
    }
  }

  #leaveSoon(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#leave()
    })
  }

  #next() {
    let weight = 0
    let count = 0
    for (const { call } of this.#waiting) {
      weight += this.#weightOf(call)
      if (count > 0 && weight > this.#weightMax) break
      count += 1
    }
    return this.#waiting.splice(0, count)
  }

  async #trip(group: { call: Call; resolve: (answer: Answer) => void; reject: (error: unknown) => void }[]) {
    this.#underWay += 1
    try {
      const answers = await this.#send(group.map(({ call }) => call))
      group.forEach(({ resolve }, index) => {
        resolve(answers[index]!)
      })
    } catch (error) {
      for (const { reject } of group) reject(error)
    } finally {
      this.#underWay -= 1
      this.#leave()
    }
  }
}
