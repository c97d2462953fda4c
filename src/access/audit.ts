import type { Logger } from 'pino'
import { withoutTokens } from '../task/masking.ts'
import type { Principal } from './principal.ts'

/** The action of a call. */
export interface Audited {
  action: string
  target: string | null
  /** HTTP status, or null. */
  status: number | null
  /** The caller's address. */
  ip: string | null
  /** Details: the number of tasks of a bulk change, the old and new value of a limit. */
  details?: AuditDetails | null
}

export type AuditDetails = Readonly<Record<string, unknown>>

/** Refusals of one address per window with separate lines; the rest share one. */
const REFUSALS_MAX = 20
const WINDOW_MS = 10_000
const ADDRESSES_MAX = 10_000

/**
 * The audit log of changes and refusals. A line is written as soon as the change is made, even if the caller does not
 * wait for the answer. It has its own level, independent of `--log-level`.
 */
export class AuditLog {
  readonly #log: Logger
  /** Calls within some hundred milliseconds share one caller object, so its part of the line is cached. */
  readonly #logs = new WeakMap<Principal, Logger>()
  readonly #refusals = new Map<string, { lines: number; more: number }>()
  #window: NodeJS.Timeout | undefined

  constructor(logger: Logger) {
    this.#log = logger.child({ audit: true }, { level: logger.level === 'silent' ? 'silent' : 'info' })
  }

  changed(by: Principal, audited: Audited): void {
    let log = this.#logs.get(by)
    if (!log) {
      log = this.#log.child(actorOf(by))
      this.#logs.set(by, log)
    }
    log.info(callOf(audited), 'audit')
  }

  /**
   * A refused call or a failed login. Any client can cause these, so their lines are bounded: further refusals of an
   * address within ten seconds share one line with their count.
   * @param why without the credential
   */
  refused(by: Principal | null, audited: Audited, why: string): void {
    const address = audited.ip ?? ''
    const seen = this.#refusals.get(address)
    if (!seen && this.#refusals.size < ADDRESSES_MAX) this.#refusals.set(address, { lines: 1, more: 0 })
    else if (seen && ++seen.lines > REFUSALS_MAX) seen.more += 1
    this.#window ??= setTimeout(() => this.#summarize(), WINDOW_MS).unref()
    if (!seen || seen.more === 0) this.#log.warn({ ...actorOf(by), ...callOf(audited), refused: true, why }, 'audit')
  }

  /** Flushes a log that buffers lines. */
  flush(): void {
    this.#log.flush()
  }

  /** Writes the pending lines. */
  close(): void {
    this.#summarize()
  }

  #summarize(): void {
    clearTimeout(this.#window)
    this.#window = undefined
    for (const [ip, { more }] of this.#refusals) {
      if (more > 0) this.#log.warn({ action: 'more refusals', count: more, ip, refused: true }, 'audit')
    }
    this.#refusals.clear()
  }
}

function actorOf(by: Principal | null) {
  return { actor: by?.name ?? null, actor_id: by?.id ?? null }
}

function callOf({ action, target, status, ip, details }: Audited) {
  return { action, target: target === null ? null : withoutTokens(target), ...details, status, ip }
}
