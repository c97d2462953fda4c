import { setTimeout as wait } from 'node:timers/promises'
import type { SeededRandom } from '../simulation/random.ts'
import { type JudgedProcess, LEASE_MS } from './judged-process.ts'
import type { JudgedStore } from './judged-stores.ts'
import type { Fault } from './record.ts'

/** Breaks one thing after the other, drawn from a seed, until it is stopped; then everything runs again. */
export class Faults {
  readonly faults: Fault[] = []
  /** Processes that a stop in order ended with another code than 0. */
  readonly badExits: string[] = []
  readonly #processes: readonly JudgedProcess[]
  readonly #store: JudgedStore
  readonly #random: SeededRandom
  readonly #stop = new AbortController()
  #done: Promise<void> = Promise.resolve()

  constructor(processes: readonly JudgedProcess[], store: JudgedStore, random: SeededRandom) {
    this.#processes = processes
    this.#store = store
    this.#random = random
  }

  start(): void {
    this.#done = this.#run()
    this.#done.catch(() => undefined) // `stop` throws it.
  }

  /** @throws Error if a process did not start again */
  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#done
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      await wait(this.#random.between(300, 1_500), undefined, { signal }).catch(() => undefined)
      if (!signal.aborted) await this.#break()
    }
  }

  async #break(): Promise<void> {
    const { crashes } = this.#store
    const what = this.#random.one<Fault['what']>([
      'kill',
      'kill',
      'freeze',
      'stop',
      crashes.length > 0 ? 'store' : 'kill',
    ])
    const process = this.#random.one(this.#processes)
    const fault: Fault = {
      what,
      pid: what === 'store' ? null : process.pid,
      from: Date.now(),
      to: Number.POSITIVE_INFINITY,
    }
    this.faults.push(fault)
    if (what === 'store') await this.#random.one(crashes)()
    else if (what === 'freeze') {
      process.signal('SIGSTOP')
      await wait(LEASE_MS + this.#random.between(200, 1_500))
      process.signal('SIGCONT')
    } else {
      const code = await process.end(what === 'kill' ? 'SIGKILL' : 'SIGTERM')
      if (what === 'stop' && code !== 0) this.badExits.push(`SIGTERM ended a process with ${code}: ${process.log}`)
      await wait(this.#random.between(0, 500))
      await process.start()
    }
    fault.to = Date.now()
  }
}
