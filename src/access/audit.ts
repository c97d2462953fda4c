import type { Logger } from 'pino'
import { withoutTokens } from './masking.ts'
import type { Principal } from './principal.ts'

/** What a call did or would have done. */
export interface Audited {
  action: string
  target: string | null
  /** HTTP status, or null where there is none. */
  status: number | null
  /** The caller's address. */
  ip: string | null
  /** What is worth knowing of it beside: how many a bulk change matched, from what to what a limit was changed. */
  details?: AuditDetails | null
}

export type AuditDetails = Readonly<Record<string, unknown>>

/** Refusals of one address within a window that get lines of their own; the rest share one. */
const REFUSALS_MAX = 20
const WINDOW_MS = 10_000
const ADDRESSES_MAX = 10_000

/**
 * The audit log: who changed what, and who was refused. A line is written as soon as the change is made, so a caller
 * that does not wait for the answer leaves its line as well. It has a level of its own: it must not get lost in a
 * setting for noise.
 */
export class AuditLog {
  readonly #log: Logger
  /** A caller is one object for all its calls of some hundred milliseconds: its part of the line is made once. */
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
   * A call that was not allowed, or a login that failed. Anybody can cause these, so their lines are bounded: what an
   * address causes beyond that in ten seconds is told by one line with its count.
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

  /** Brings what was written to where the log goes, where the log is one that gathers lines. */
  flush(): void {
    this.#log.flush()
  }

  /** Writes what is still to be told. */
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
