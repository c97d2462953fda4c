import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { Ledger } from './ledger.ts'
import type { Resources, SoakInput } from './soak-process.ts'
import { openStore, type SoakStore } from './stores.ts'
import { Traffic } from './traffic.ts'

export interface SoakPlan {
  engine: string
  /** How long the maximum is measured, half of it is kept up, and twice as much is asked for. */
  measureMs: number
  steadyMs: number
  overloadMs: number
  /** How often a worker ends and another one comes. */
  turnoverMs: number
  samples: number
}

/** The server and the store at one moment, and the answers since the one before. */
export interface Sample extends Resources {
  phase: 'rest' | 'steady' | 'overload' | 'after'
  storeBytes: number
  databaseBytes: number
  waiting: number
  accepted: number
  p50Ms: number
  p99Ms: number
  statuses: Record<string, number>
}

export interface Soaked {
  tasksPerSecondMax: number
  samples: Sample[]
  workersLost: number
  waitingMax: number
  accepted: number
  ended: number
  lost: number
  endedTwice: number
  gaps: number
}

const WORKERS = 2
const MEASURED_AT_ONCE = 1e6
const WAITING_MAX = 5_000
/** Little is kept, so that what is kept is soon all there is, and nothing may grow any more. */
const FLAGS = { 'retention-count': '1000', 'max-pending': String(WAITING_MAX), lease: '2s', concurrency: '5' }
const EVENTS_MAX = 100_000
const STUCK_MS = 60_000

/** A server under load with workers that come and go: measured, at half of it, at twice of it, and afterwards. */
export class Soak {
  readonly #plan: SoakPlan
  readonly #store: SoakStore
  readonly #engine: Queue
  readonly #ledger: Ledger
  readonly #workers: ChildProcess[] = []
  readonly #samples: Sample[] = []
  #server!: ChildProcess
  #traffic!: Traffic
  #workersLost = 0
  #waitingMax = 0

  static async run(plan: SoakPlan, found: (sample: Sample) => void = () => undefined): Promise<Soaked> {
    const store = await openStore(plan.engine)
    const engine = await openQueue(store.url, { leaseMs: 2_000, eventsMax: EVENTS_MAX })
    const { last } = await engine.events({ after: null, max: 1 })
    const soak = new Soak(plan, store, engine, new Ledger(engine, last))
    try {
      return await soak.#run(found)
    } finally {
      await soak.#stop()
    }
  }

  private constructor(plan: SoakPlan, store: SoakStore, engine: Queue, ledger: Ledger) {
    this.#plan = plan
    this.#store = store
    this.#engine = engine
    this.#ledger = ledger
  }

  async #run(found: (sample: Sample) => void): Promise<Soaked> {
    const { measureMs, steadyMs, overloadMs, samples } = this.#plan
    const sample = async (phase: Sample['phase']) => found(await this.#sample(phase))
    for (let started = 0; started < WORKERS; started++) await this.#startWorker()
    const [server, address] = await this.#start('serve')
    this.#server = server
    this.#traffic = new Traffic(address, this.#ledger)
    const max = await this.#measure(measureMs)
    await this.#drain()
    this.#traffic.take()
    await sample('rest')
    const turnover = this.#turnOver(steadyMs)
    for (let index = 0; index < samples; index++) {
      await this.#traffic.run(max / 2, steadyMs / samples)
      await sample('steady')
    }
    await turnover
    await this.#traffic.run(max * 2, overloadMs)
    await sample('overload')
    await this.#drain()
    await this.#traffic.run(max / 2, steadyMs / samples)
    await this.#drain()
    await sample('after')
    const { accepted, ended, open: lost, unaccounted: endedTwice, gaps } = this.#ledger
    const counts = { accepted, ended, lost, endedTwice, gaps }
    const [workersLost, waitingMax] = [this.#workersLost, this.#waitingMax]
    return { tasksPerSecondMax: max, samples: this.#samples, workersLost, waitingMax, ...counts }
  }

  /** How many tasks end in a second when more are submitted than can be run. */
  async #measure(ms: number): Promise<number> {
    const before = this.#ledger.ended
    await this.#traffic.run(MEASURED_AT_ONCE, ms)
    return ((this.#ledger.ended - before) * 1_000) / ms
  }

  /** Until everything that was accepted has ended. */
  async #drain(): Promise<void> {
    const since = performance.now()
    while (this.#ledger.open > 0) {
      if (performance.now() - since > STUCK_MS) return // The rest is reported as lost.
      await sleep(50)
    }
  }

  /** Ends the oldest worker, by turns as a crash and as a deploy does, after another one has come. */
  async #turnOver(ms: number): Promise<void> {
    const end = performance.now() + ms
    while (performance.now() + this.#plan.turnoverMs < end) {
      await sleep(this.#plan.turnoverMs)
      await this.#startWorker()
      const oldest = this.#workers.shift()!
      if (this.#workersLost++ % 2 === 0) oldest.kill('SIGKILL')
      else oldest.send('stop')
      await once(oldest, 'exit')
    }
  }

  async #sample(phase: Sample['phase']): Promise<Sample> {
    const { counts } = await this.#engine.stats()
    this.#server.send('resources')
    const [resources] = (await once(this.#server, 'message')) as [Resources]
    const { statuses, latenciesMs } = this.#traffic.take()
    latenciesMs.sort((a, b) => a - b)
    const at = (share: number) => latenciesMs[Math.floor(latenciesMs.length * share)] ?? 0
    this.#waitingMax = Math.max(this.#waitingMax, counts.pending)
    const sample = {
      phase,
      ...resources,
      ...this.#store.bytes(),
      waiting: counts.pending,
      accepted: this.#ledger.accepted,
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      statuses,
    }
    this.#samples.push(sample)
    return sample
  }

  async #startWorker(): Promise<void> {
    this.#workers.push((await this.#start('work'))[0])
  }

  async #start(role: SoakInput['role']): Promise<[ChildProcess, string]> {
    const input: SoakInput = { role, flags: { ...FLAGS, engine: this.#store.url } }
    const args = ['--expose-gc', join(import.meta.dirname, 'soak-process.ts'), JSON.stringify(input)]
    const child = endAtExit(spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }))
    const ended = once(child, 'exit').then(([code]) =>
      Promise.reject(new Error(`a ${role} process ended with ${code}`)),
    )
    const [address] = await Promise.race([once(child, 'message'), ended])
    ended.catch(() => undefined)
    return [child, address]
  }

  async #stop(): Promise<void> {
    await this.#traffic?.close()
    for (const child of [...this.#workers, this.#server].filter(Boolean)) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    await this.#ledger.close()
    await this.#engine.close()
    await this.#store.stop()
  }
}
