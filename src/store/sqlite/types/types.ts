import { type Retention, retentionOf } from '../../../task/retention.ts'
import { unknownType } from '../../refusals.ts'
import {
  type HandlerSettings,
  type StoreOptions,
  TYPES_NAMED_MAX,
  type TypeChange,
  type WorkerIdentity,
} from '../../store.ts'
import { changedType, NEW_TYPE, type TypeRecord } from '../../type-record.ts'
import type { Database, Row, Value } from '../database/database.ts'
import type { Tx } from '../database/writer.ts'
import type { GroupScheduler } from '../turn/group-scheduler.ts'

/** The settings of a type, and what claims and settlements need beside them. */
export interface TypeRules extends TypeRecord {
  lastSeen: number
  /** The retention in force. */
  keptMs: Retention
}

/** A worker row and its types are written again only when they are this old, not with every turn. */
const TOUCH_MS = 20_000
/** Searches for unused types in the time after which a type counts as unused. */
const FORGETS_PER_TTL = 24
/** Who has set a limit, as stored. */
const OPERATOR = 'operator'

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
  #forgetsAt = 0

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
      rules = row ? rulesOf(row) : null
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
    const after = changedType(before, change)
    this.#database.run('putType', ...valuesOf(after), type)
    if (change.handler) this.#database.run('typeSeen', tx.now, type)
    this.#rules.delete(type)
    if (after.groupConcurrency !== before.groupConcurrency) groups.limitChanged(type)
    if (after.groupTurns !== before.groupTurns) groups.turnsChanged(type)
    if (before.rate && !after.rate) this.#database.run('dropStarts', type)
    tx.touchedTypes.add(type)
  }

  declare(tx: Tx, groups: GroupScheduler, handlers: ReadonlyMap<string, HandlerSettings>): void {
    for (const [type, handler] of handlers) this.configure(tx, groups, type, { handler })
  }

  /** Starts no task of a type before a time; a longer hold stays. */
  hold(type: string, until: number): void {
    this.#database.run('holdType', until, type)
    this.#rules.delete(type)
  }

  /** Whether the type exists and is neither paused nor held. */
  isOpen(type: string, now: number): boolean {
    const rules = this.rules(type)
    return rules !== null && !rules.paused && (rules.heldUntil ?? 0) <= now
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

  /** The number of types that may still be created by naming them. */
  #roomForNamed(now: number): number {
    this.forgetUnused(now)
    return TYPES_NAMED_MAX - (this.#database.get('countServed', now - this.#options.typeTtlMs)!.n as number)
  }

  isForgettingDue(now: number): boolean {
    return now >= this.#forgetsAt
  }

  /** Removes types that have only a name, and neither a worker nor a task any more. */
  forgetUnused(now: number): void {
    const { typeTtlMs } = this.#options
    this.#forgetsAt = now + typeTtlMs / FORGETS_PER_TTL
    if (this.#database.run('dropUnusedTypes', now - typeTtlMs) === 0) return
    this.#database.run('dropCountsOfNoType')
    this.#rules.clear()
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

  /** Removes workers that have not called since then. */
  forgetWorkers(unseenSince: number): void {
    for (const [id, { at }] of this.#touched) if (at <= unseenSince) this.#touched.delete(id)
    this.#database.run('dropWorkersUnseen', unseenSince)
  }

  /** After a rollback, nothing that was cached in memory is valid. */
  forget(): void {
    this.#rules.clear()
    this.#touched.clear()
  }

  /** Creates a type with default settings, unless it exists. */
  insert(type: string): void {
    this.#database.run('insertType', type, JSON.stringify(NEW_TYPE.delaysMs), NEW_TYPE.jitter)
  }
}

/** Reads a row of `types`. */
export function rulesOf(row: Row): TypeRules {
  const retention = JSON.parse(row.retention as string)
  return {
    declared: row.declared === 1,
    paused: row.paused === 1,
    heldUntil: row.held_until as number | null,
    maxConcurrency: row.max_concurrency as number | null,
    groupConcurrency: row.group_concurrency as number | null,
    groupTurns: row.group_turns as TypeRecord['groupTurns'],
    rate: row.rate_max === null ? null : { max: row.rate_max as number, perMs: row.rate_per_ms as number },
    setByOperator: {
      maxConcurrency: row.max_concurrency_source === OPERATOR,
      groupConcurrency: row.group_concurrency_source === OPERATOR,
      groupTurns: row.group_turns_source === OPERATOR,
      rate: row.rate_source === OPERATOR,
    },
    delaysMs: JSON.parse(row.retry_delays_ms as string),
    jitter: row.retry_jitter as number,
    payloadSchema: row.payload_schema === null ? null : JSON.parse(row.payload_schema as string),
    defaults: JSON.parse(row.spec_defaults as string),
    ceilings: JSON.parse(row.ceilings as string),
    retention,
    lastSeen: row.last_seen as number,
    keptMs: retentionOf(retention),
  }
}

/** The values of `putType`. */
function valuesOf(record: TypeRecord): Value[] {
  const { maxConcurrency, groupConcurrency, groupTurns, rate, setByOperator, payloadSchema, retention } = record
  const source = (isSet: boolean) => (isSet ? OPERATOR : 'handler')
  return [
    Number(record.declared),
    Number(record.paused),
    record.heldUntil,
    maxConcurrency,
    source(setByOperator.maxConcurrency),
    groupConcurrency,
    source(setByOperator.groupConcurrency),
    groupTurns,
    source(setByOperator.groupTurns),
    rate?.max ?? null,
    rate?.perMs ?? null,
    source(setByOperator.rate),
    JSON.stringify(record.delaysMs),
    record.jitter,
    payloadSchema === null ? null : JSON.stringify(payloadSchema),
    JSON.stringify(record.defaults),
    JSON.stringify(record.ceilings),
    JSON.stringify(retention),
  ]
}
