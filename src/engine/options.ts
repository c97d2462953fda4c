import { type After, MACHINE_TIME } from '../task/time.ts'

/** Tasks that one step of a store tells of the end of others: some tens of milliseconds, for which all calls wait. */
export const FOLLOWED_MAX = 1_000

/** What every engine is opened with, and what is meant where nothing is said. */
export interface EngineOptions {
  /** Milliseconds since the epoch; tests hand in one that they move. */
  clock: () => number
  /** How the embedded engine waits; a simulation hands in its own. What talks over a network waits in real time. */
  after: After
  /** 0 ≤ x < 1, for jitter. */
  random: () => number
  /** How long a lease lives without renewal. */
  leaseMs: number
  /** Lost leases after which a task fails as poison (`max_deliveries`). */
  lostLeasesMax: number
  /** How long a handler may take to stop after a cancel before the task ends without it. */
  cancelGraceMs: number
  /** A worker not seen for this long counts as gone. */
  workerTtlMs: number
  /** How long a type stays known after its last worker left, so that a deploy refuses no submissions. */
  typeTtlMs: number
  retention: { ageMs: number; countMax: number }
  /** Events kept for readers that resume. */
  eventsMax: number
  /** How long, at most. */
  eventsAgeMs: number
  /** How many bytes of them, at most; the newest entry is kept whatever its size. */
  eventsBytesMax: number
  /** Waiting tasks over all types above which submissions are refused; null: no cap. */
  pendingMax: number | null
  /** How long opening a locked file waits, which blocks the event loop. */
  openWaitMs: number
  /** It holds the state for an engine that keeps a log, see state.ts. */
  isState: boolean
}

export const ENGINE_DEFAULTS: EngineOptions = {
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
  pendingMax: null,
  openWaitMs: 5_000,
  isState: false,
}

/**
 * Events of removed tasks are left out once they are older than this. A reader of the stream that lags by less receives
 * every status, even if retention removes tasks as soon as they end.
 */
export const LATE_READER_MS = 60_000
