/** The six statuses of a task. */
export const STATUSES = ['pending', 'processing', 'success', 'failed', 'canceled', 'timeout'] as const
export type Status = (typeof STATUSES)[number]

/** The reason of a `timeout`: too long a wait for the first start, or too long a last attempt. */
export const TIMEOUT_REASONS = ['queue_wait', 'processing'] as const
export type TimeoutReason = (typeof TIMEOUT_REASONS)[number]

/**
 * All legal transitions. `processing → pending` is a retry with back-off, a lost lease or a release. Only an explicit
 * retry leaves a final status, and nothing leaves `success`.
 */
export const TRANSITIONS: Readonly<Record<Status, readonly Status[]>> = {
  pending: ['processing', 'canceled', 'timeout'],
  processing: ['success', 'failed', 'canceled', 'timeout', 'pending'],
  success: [],
  failed: ['pending'],
  canceled: ['pending'],
  timeout: ['pending'],
}

export const FINAL_STATUSES = ['success', 'failed', 'canceled', 'timeout'] as const
export type FinalStatus = (typeof FINAL_STATUSES)[number]

/** The final statuses that an explicit retry can return to `pending`. */
export const RETRYABLE_STATUSES = ['failed', 'canceled', 'timeout'] as const

/** The statuses in which a task can be canceled, and retried. */
export const CHANGEABLE_STATUSES = {
  cancel: ['pending', 'processing'],
  retry: RETRYABLE_STATUSES,
} as const satisfies Record<string, readonly Status[]>

/** As many of each as there are of none. */
export function noCounts(): Record<Status, number> {
  return { pending: 0, processing: 0, success: 0, failed: 0, canceled: 0, timeout: 0 }
}

/** The stored statuses of `pending` tasks: ready (stored as `pending`), delayed, and waiting for other tasks. */
export const WAITING_STATUSES = ['pending', 'delayed', 'dependent'] as const

/**
 * The statuses that stores keep and count. All bounds, counts, filters and scripts that name stored statuses take them
 * from these lists.
 */
export const STORED_STATUSES = [...WAITING_STATUSES, 'processing', ...FINAL_STATUSES] as const
export type StoredStatus = (typeof STORED_STATUSES)[number]

/** The stored statuses of a public status. */
export function storedAs(status: Status): readonly StoredStatus[] {
  return status === 'pending' ? WAITING_STATUSES : [status]
}

/** The public status of a stored one. */
export function publicStatus(stored: StoredStatus): Status {
  return stored === 'delayed' || stored === 'dependent' ? 'pending' : stored
}

/** As many of each as there are of none. */
export function noStoredCounts(): Record<StoredStatus, number> {
  return { ...noCounts(), delayed: 0, dependent: 0 }
}

export function isStatus(value: unknown): value is Status {
  return STATUSES.includes(value as Status)
}

export function isFinal(status: Status): status is FinalStatus {
  return FINAL_STATUSES.includes(status as FinalStatus)
}

export function canMove(from: Status, to: Status): boolean {
  return TRANSITIONS[from].includes(to)
}
