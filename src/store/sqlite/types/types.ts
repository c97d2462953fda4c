import { type Ceilings, changedCeilings } from '../../../task/ceilings.ts'
import { changedRetention, type Retention, retentionOf, type TypeRetention } from '../../../task/retention.ts'
import { RETRY_DEFAULTS, retryDelaysMs } from '../../../task/retry.ts'
import { unknownType } from '../../refusals.ts'
import {
  type HandlerSettings,
  type Rate,
  type StoreOptions,
  TYPES_NAMED_MAX,
  type TypeChange,
  type WorkerIdentity,
} from '../../store.ts'
import type { Database, Row } from '../database/database.ts'
import type { Tx } from '../database/writer.ts'
import type { GroupScheduler } from '../turn/group-scheduler.ts'

/** The settings of a type that claims and settlements need. */
export interface TypeRules {
  declared: boolean
  lastSeen: number
  maxConcurrency: number | null
  groupConcurrency: number | null
  rate: Rate | null
  paused: boolean
  delaysMs: number[]
  jitter: number
  ceilings: Ceilings
  retention: TypeRetention
  /** The retention in force. */
  keptMs: Retention
}

/** A worker row and its types are written again only when they are this old, not with every turn. */
const TOUCH_MS = 5_000

/**
 * Types and workers, cached: the cache is dropped whenever another connection has written, and whenever this one
 * changes a type.
 */
export class Registry {
  readonly #database: Database
  readonly #options: StoreOptions
  readonly #rules = new Map<string, TypeRules | null>()
  readonly #touched = new Map<string, { at: number; types: readonly string[]; processed: number; failed: number }>()
  #dataVersion = -1

  constructor(database: Database, options: StoreOptions) {
    this.#database = database
    this.#options = options
  }

  /** Whether another connection has written since the last call; if so, drops the cache. */
  refresh(): boolean {
    const version = this.#database.get('dataVersion')!.data_version as number
    if (version === this.#dataVersion) return false
    this.#dataVersion = version
    this.#rules.clear()
    return true
  }

  rules(type: string): TypeRules | null {
    let rules = this.#rules.get(type)
    if (rules === undefined) {
      const row = this.#database.get('typeByName', type)
      const retention = row && (JSON.parse(row.retention as string) as TypeRetention)
      rules = retention
        ? {
            declared: row.declared === 1,
            lastSeen: row.last_seen as number,
            maxConcurrency: row.max_concurrency as number | null,
            groupConcurrency: row.group_concurrency as number | null,
            rate: rateOf(row),
            paused: row.paused === 1,
            delaysMs: JSON.parse(row.retry_delays_ms as string),
            jitter: row.retry_jitter as number,
            ceilings: JSON.parse(row.ceilings as string),
            retention,
            keptMs: retentionOf(retention),
          }
        : null
      this.#rules.set(type, rules)
    }
    return rules
  }

  isKnown(type: string, now: number): boolean {
    const rules = this.rules(type)
    return rules !== null && (rules.declared || rules.lastSeen > now - this.#options.typeTtlMs)
  }

  known(now: number): string[] {
    const names = this.#database.all('allTypes').map((row) => row.type as string)
    return names.filter((name) => this.isKnown(name, now))
  }

  /** @throws XQueueError `unknown_type` for a change of a type that does not exist */
  configure(tx: Tx, groups: GroupScheduler, type: string, change: TypeChange): void {
    if (!change.handler && !change.declared && !this.rules(type)) throw unknownType(type, this.known(tx.now))
    this.insert(type)
    this.#rules.delete(type)
    const before = this.rules(type)!
    const { handler, declared, maxConcurrency, groupConcurrency, rate, paused, ceilings, retention } = change
    if (handler) {
      const delays = JSON.stringify(retryDelaysMs(handler.retry))
      const schema = handler.payloadSchema === null ? null : JSON.stringify(handler.payloadSchema)
      const { maxConcurrency, groupConcurrency, rate, retry, defaults } = handler
      this.#database.run(
        'setHandler',
        type,
        delays,
        retry.jitter,
        schema,
        tx.now,
        maxConcurrency,
        JSON.stringify(defaults),
        groupConcurrency,
        rate?.max ?? null,
        rate?.perMs ?? null,
      )
    }
    if (declared !== undefined) this.#database.run('declare', declared ? 1 : 0, type)
    if (maxConcurrency !== undefined) this.#database.run('setLimit', maxConcurrency, type)
    if (groupConcurrency !== undefined) this.#database.run('setGroupLimit', groupConcurrency, type)
    if (rate !== undefined) this.#database.run('setRate', rate?.max ?? null, rate?.perMs ?? null, type)
    if (paused !== undefined) this.#database.run('setPaused', paused ? 1 : 0, type)
    if (ceilings !== undefined) {
      this.#database.run('setCeilings', JSON.stringify(changedCeilings(before.ceilings, ceilings)), type)
    }
    if (handler || retention) {
      const set = changedRetention(before.retention.set, retention ?? {})
      const after = { set, handler: handler ? (handler.retention ?? {}) : before.retention.handler }
      this.#database.run('setRetention', JSON.stringify(after), type)
    }
    this.#rules.delete(type)
    const after = this.rules(type)!
    if (after.groupConcurrency !== before.groupConcurrency) groups.limitChanged(type)
    if (before.rate && !after.rate) this.#database.run('dropStarts', type)
    tx.touchedTypes.add(type)
  }

  declare(tx: Tx, groups: GroupScheduler, handlers: ReadonlyMap<string, HandlerSettings>): void {
    for (const [type, handler] of handlers) this.configure(tx, groups, type, { handler })
  }

  /** Whether the worker's heartbeat was written recently. */
  isFresh(worker: WorkerIdentity, now: number): boolean {
    const before = this.#touched.get(worker.id)
    if (before === undefined || now - before.at >= TOUCH_MS || now < before.at) return false
    return before.types === worker.types || String(before.types) === String(worker.types)
  }

  /** Writes the worker's heartbeat, unless it was written recently. */
  touch(tx: Tx, worker: WorkerIdentity): void {
    if (this.isFresh(worker, tx.now)) return
    const before = this.#touched.get(worker.id)
    const types = JSON.stringify(worker.types)
    const { id, host, pid, concurrency, startedAt } = worker
    const { processed = 0, failed = 0 } = before ?? {}
    this.#database.run('touchWorker', id, host, pid, types, concurrency, startedAt, tx.now, processed, failed)
    this.#touched.set(id, { at: tx.now, types: worker.types, processed: 0, failed: 0 })
    let room: number | undefined
    for (const type of worker.types) {
      if (!this.rules(type)) {
        room ??= this.#roomForNamed(tx.now)
        if (room <= 0) continue
        room -= 1
        this.insert(type)
      }
      this.#database.run('typeSeen', tx.now, type)
      this.#rules.delete(type)
    }
  }

  /**
   * The number of types that may still be created by naming them. Makes room by removing names that were served long
   * ago and never used.
   */
  #roomForNamed(now: number): number {
    const stale = now - this.#options.typeTtlMs
    if (this.#database.run('dropUnusedTypes', stale) > 0) this.#rules.clear()
    return TYPES_NAMED_MAX - (this.#database.get('countServed', stale)!.n as number)
  }

  /** Counts an attempt of a worker, to be written with its next heartbeat. */
  countAttempt(workerId: string, success: boolean): void {
    const touched = this.#touched.get(workerId)
    if (touched) touched[success ? 'processed' : 'failed'] += 1
  }

  leave(workerId: string): void {
    this.#touched.delete(workerId)
    this.#database.run('dropWorker', workerId)
  }

  /** After a rollback, nothing that was cached in memory is valid. */
  forget(): void {
    this.#rules.clear()
    this.#touched.clear()
  }

  /** Creates a type with default settings, unless it exists. */
  insert(type: string): void {
    this.#database.run('insertType', type, JSON.stringify(retryDelaysMs(RETRY_DEFAULTS)), RETRY_DEFAULTS.jitter)
  }
}

/** The rate of a row of `types`. */
export function rateOf({ rate_max, rate_per_ms }: Row): Rate | null {
  return rate_max === null ? null : { max: rate_max as number, perMs: rate_per_ms as number }
}
