/** What the judge has seen from outside: its calls with their answers, the event stream, and files of the handlers. */
export interface Seen {
  submissions: Submission[]
  changes: Change[]
  limits: LimitChange[]
  schedule: Schedule
  faults: Fault[]
  /** What tasks use of the limit `pool`, by their type. */
  units: Units
  /** In the order of the stream. */
  events: StreamEvent[]
  /** Ids of streams that reported a gap. */
  gaps: string[]
  /** In the order in which each process wrote them. */
  runs: Run[]
  /** All tasks at the end, in the order of the pages. */
  tasks: TaskJson[]
  /** Counts by status, as the statistics report them at the end. */
  counts: Record<string, number>
  /** Answers that the API does not promise. */
  badAnswers: string[]
}

/** What the handler of a task does. */
export interface Work {
  /** The number of the submission. */
  n: number
  ms: number
  /** Attempts that fail before one succeeds. */
  failures: number
  /** Runs until its time-out. */
  hangs?: boolean
}

export interface Submission {
  n: number
  body: Body
  sentAt: number
  /** Ids of each 2xx answer: a submission with a key is repeated until it has one. */
  ids: string[]
  /** The status of an answer after which there is no task: the call itself was wrong. */
  refused: number | null
}

export interface Body {
  type: string
  payload: Work
  tags: { n: string }
  priority?: number
  max_retry?: number
  process_timeout?: number
  delay?: number
  group?: string
  after?: string[]
  idempotency_key?: string
}

/** A cancellation or a retry, and its answer; null: none arrived. */
export interface Change {
  what: 'cancel' | 'retry'
  id: string
  status: number | null
}

/** A change of a maximum, in force at some time between these, and afterwards; `answeredAt` null: perhaps never. */
export interface LimitChange {
  name: string
  max: number
  sentAt: number
  answeredAt: number | null
}

export interface Schedule {
  id: string
  everyMs: number
  createdAt: number
  deletedAt: number
}

export interface Fault {
  what: 'kill' | 'freeze' | 'stop' | 'store'
  /** Of the process; null for the store. */
  pid: number | null
  from: number
  to: number
}

export interface StreamEvent {
  event_id: string
  task_id: string
  type: string
  status: string
  attempts: number
  timestamp: string
}

/** A line of a handler. */
export interface Run {
  what: 'began' | 'ended' | 'failed'
  id: string
  attempt: number
  fence: number
  pid: number
  at: number
}

export interface TaskJson {
  id: string
  type: string
  status: string
  payload: Work | null
  priority: number
  attempts: number
  deliveries: number
  max_retry: number
  result: { fence: number } | null
  error: string | null
  tags: Record<string, string>
  idempotency_key: string | null
}

export type Units = Readonly<Record<string, number>>

/** The limits that the handlers declare. */
export const DECLARED = {
  narrow: 3,
  pool: 4,
  groupOfType: 1,
  rate: { max: 2, perMs: 300 },
} as const
export const TICK_TYPE = 'tick'
