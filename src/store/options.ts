import { type After, MACHINE_TIME } from '../task/time.ts'

/**
 * The maximum number of successors that one step of a store updates: some tens of milliseconds, during which all calls
 * wait.
 */
export const FOLLOWED_MAX = 1_000

/** Options of every store; STORE_DEFAULTS has their defaults. */
export interface StoreOptions {
  /** Milliseconds since the epoch; tests pass a clock that they move. */
  clock: () => number
  /** The timer of the embedded store; a simulation passes its own. Code that uses a network waits in real time. */
  after: After
  /** 0 ≤ x < 1, for jitter. */
  random: () => number
  /** Duration of a lease without renewal. */
  leaseMs: number
  /** Number of lost leases after which a task fails as poison (`max_deliveries`). */
  lostLeasesMax: number
  /** Time that a handler has to stop after a cancel before the task ends without it. */
  cancelGraceMs: number
  /** A worker that has made no call for this long counts as gone. */
  workerTtlMs: number
  /** Time that a type stays known after its last worker left, so that a deploy refuses no submissions. */
  typeTtlMs: number
  retention: { ageMs: number; countMax: number }
  /** Maximum number of events kept for readers that resume. */
  eventsMax: number
  /** Maximum age of kept events. */
  eventsAgeMs: number
  /** Maximum bytes of kept events; the newest entry is kept regardless of its size. */
  eventsBytesMax: number
  /** Maximum number of lines of handlers kept with a task; 0: none. */
  logLinesMax: number
  /** Waiting tasks over all types above which submissions are refused; null: no limit. */
  pendingMax: number | null
  /** Maximum wait for a locked file when opening it; the wait blocks the event loop. */
  openWaitMs: number
  /** True if it holds the state for a store that keeps a log, see state.ts. */
  isState: boolean
}

export const STORE_DEFAULTS: StoreOptions = {
  clock: MACHINE_TIME.now,
  after: MACHINE_TIME.after,
  random: Math.random,
  leaseMs: 30_000,
  lostLeasesMax: 5,
  cancelGraceMs: 5_000,
  workerTtlMs: 60_000,
  typeTtlMs: 86_400_000,
  retention: { ageMs: 86_400_000, countMax: 100_000 },
  eventsMax: 100_000,
  eventsAgeMs: 86_400_000,
  eventsBytesMax: 64 * 1024 * 1024,
  logLinesMax: 1_000,
  pendingMax: null,
  openWaitMs: 5_000,
  isState: false,
}

/**
 * Events of removed tasks are omitted once they are older than this. A reader of the stream that lags by less receives
 * every status, even if retention removes tasks as soon as they end.
 */
export const LATE_READER_MS = 60_000
