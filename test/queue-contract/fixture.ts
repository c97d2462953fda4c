import type {
  GroupTurns,
  Lease,
  Queue,
  QueueOptions,
  Rate,
  Settled,
  TypeInfo,
  WorkerIdentity,
} from '../../src/queue/queue.ts'
import type { Json } from '../../src/task/json.ts'
import type { Outcome } from '../../src/task/outcome.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec, type Task, type TaskSpec } from '../../src/task/task.ts'

/** Opens a fresh store; `second` opens the same store once more, as another process would. */
export interface Opened {
  queue: Queue
  second: () => Promise<Queue>
  cleanup: () => Promise<void>
}
export type Open = (options: Partial<QueueOptions>) => Promise<Opened>

export const WORKER: WorkerIdentity = {
  id: 'w1',
  host: 'h',
  pid: 1,
  types: ['t', 'u'],
  concurrency: 100,
  startedAt: 0,
}

/** The limits that a handler may set beside the concurrency. */
export type HandlerLimits = { groupConcurrency?: number | null; groupTurns?: GroupTurns; rate?: Rate | null }

/** The environment of each test: a fresh store, a clock that tests move, and short forms of the usual steps. */
export class Fixture {
  now = 0
  /** Each reading of the clock advances it by so much. */
  tickMs = 0
  opened!: Opened
  readonly worker = WORKER
  readonly #open: Open

  constructor(open: Open) {
    this.#open = open
  }

  get queue(): Queue {
    return this.opened.queue
  }

  /** Time does not pass unless a test moves it. */
  readonly options: Partial<QueueOptions> = {
    clock: () => {
      this.now += this.tickMs
      return this.now
    },
    random: () => 0,
    leaseMs: 1_000,
    workerTtlMs: 1e9,
  }

  readonly start = async (more: Partial<QueueOptions> = {}): Promise<void> => {
    const { queue, second, cleanup } = await this.#open({ ...this.options, ...more })
    const others: Queue[] = []
    this.opened = {
      queue,
      second: async () => {
        const other = await second()
        others.push(other)
        return other
      },
      // What a test leaves open would take tasks of the next one, whose store may have the same names.
      cleanup: async () => {
        await Promise.all(others.map((other) => other.close()))
        await cleanup()
      },
    }
    for (const type of WORKER.types) await this.limit(type, null)
  }

  readonly limit = (type: string, maxConcurrency: number | null, more: HandlerLimits = {}): Promise<TypeInfo> => {
    const handler = { maxConcurrency, groupConcurrency: null, rate: null, retry: RETRY_DEFAULTS, ...more }
    return this.queue.configureType(type, { handler: { ...handler, payloadSchema: null, defaults: {} } })
  }

  readonly submit = async (spec: Partial<TaskSpec> = {}): Promise<Task> =>
    (await this.queue.submit([completeSpec({ type: 't', ...spec })]))[0]!.task

  readonly claim = async (want = 1, worker = WORKER): Promise<Lease[]> =>
    (await this.queue.turn({ worker, want })).leases

  readonly succeed = (lease: string, result: Json = null): Promise<Settled> =>
    this.#settle(lease, { kind: 'success', result })

  readonly fail = (lease: string, more: object = {}): Promise<Settled> =>
    this.#settle(lease, { kind: 'failure', error: 'no', retry: true, delayMs: null, ...more })

  readonly get = async (id: string): Promise<Task> => (await this.queue.get([id]))[0]!

  async #settle(lease: string, outcome: Outcome): Promise<Settled> {
    const { settled } = await this.queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease, outcome }] })
    return settled[0]!
  }
}
