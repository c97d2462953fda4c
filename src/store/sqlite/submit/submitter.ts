import { acceptedTask, isSameRequest, newTaskId, sameRequest, type Task, type TaskSpec } from '../../../task/task.ts'
import { laneOf, NO_USES } from '../../../task/uses.ts'
import { keyConflict, queueFull, unknownPredecessors, unknownTypes } from '../../refusals.ts'
import type { StoreOptions, Submitted } from '../../store.ts'
import type { Tx } from '../database/writer.ts'
import type { Decided, Flows } from '../flows/flows.ts'
import type { Limits } from '../limits/limits.ts'
import type { Parts } from '../parts.ts'
import { eventBody, storedUses, TASKS, taskOf } from '../records/rows.ts'
import type { GroupScheduler } from '../turn/group-scheduler.ts'
import type { Transitions } from '../turn/transitions.ts'
import type { Rates } from '../types/rates.ts'
import type { Registry } from '../types/types.ts'

/** Accepts submissions, all or none: every possible refusal is checked before the first task is written. */
export class Submitter {
  readonly #registry: Registry
  readonly #groups: GroupScheduler
  readonly #limits: Limits
  readonly #flows: Flows
  readonly #rates: Rates
  readonly #transitions: Transitions
  readonly #options: StoreOptions

  constructor(parts: Parts, transitions: Transitions) {
    this.#registry = parts.registry
    this.#groups = parts.groups
    this.#limits = parts.limits
    this.#flows = parts.flows
    this.#rates = parts.rates
    this.#options = parts.options
    this.#transitions = transitions
  }

  submit(tx: Tx, specs: readonly TaskSpec[]): Submitted[] {
    this.#refuseUnknownTypes(tx, specs)
    return this.#accept(tx, specs, true)
  }

  /** Accepts tasks whose types and limits the caller has already checked. */
  accept(tx: Tx, specs: readonly TaskSpec[]): Submitted[] {
    return this.#accept(tx, specs, false)
  }

  #accept(tx: Tx, specs: readonly TaskSpec[], checksUses: boolean): Submitted[] {
    const earlier = findEarlier(tx, specs)
    if (checksUses && specs.some(({ uses }) => uses !== NO_USES)) {
      this.#limits.refuse([...specs.entries()].filter(([index]) => !earlier.has(index)))
    }
    this.#refuseOverflow(tx, specs.length - earlier.size)
    this.#refusePredecessors(specs, earlier)
    const byKey = new Map<string, Task>()
    const fates: Decided[] = []
    const submitted: Submitted[] = []
    for (const [index, spec] of specs.entries()) {
      const known = earlier.get(index)
      if (known) {
        const task = known === 'in this batch' ? byKey.get(spec.idempotencyKey!)! : known
        submitted.push({ task, existing: true })
        continue
      }
      const after = spec.after.map((id) => (typeof id === 'string' ? id : submitted[id]!.task.id))
      const task = this.#insert(tx, spec, after, fates)
      if (spec.idempotencyKey !== null) byKey.set(spec.idempotencyKey, task)
      submitted.push({ task, existing: false })
    }
    this.#transitions.decide(tx, fates)
    return submitted
  }

  #refuseUnknownTypes(tx: Tx, specs: readonly TaskSpec[]): void {
    const unknown = new Set<string>()
    for (const type of new Set(specs.map((spec) => spec.type))) {
      if (!this.#registry.isKnown(type, tx.now)) unknown.add(type)
    }
    if (unknown.size > 0) throw unknownTypes(specs, unknown, this.#registry.known(tx.now))
  }

  #refuseOverflow(tx: Tx, more: number): void {
    const { pendingMax } = this.#options
    if (pendingMax === null || more === 0) return
    const waiting = tx.waiting()
    if (waiting + more > pendingMax) throw queueFull(waiting, pendingMax, more)
  }

  #refusePredecessors(specs: readonly TaskSpec[], earlier: ReadonlyMap<number, unknown>): void {
    const named = specs.flatMap(({ after }, index) =>
      earlier.has(index) ? [] : after.flatMap((id, place) => (typeof id === 'string' ? [{ index, place, id }] : [])),
    )
    if (named.length === 0) return
    const byId = Map.groupBy(named, ({ id }) => id)
    const unknown = this.#flows.unknown([...byId.keys()])
    if (unknown.size > 0) throw unknownPredecessors(named.filter(({ id }) => unknown.has(id)))
    for (const [id, { length }] of byId) this.#flows.refuseCrowd(id, length)
  }

  #insert(tx: Tx, spec: TaskSpec, after: readonly string[], fates: Decided[]): Task {
    const { now, database } = tx
    const { type, priority, maxRetry, queueTimeoutMs, processTimeoutMs, idempotencyKey, tags, payload, uses } = spec
    const id = newTaskId(now)
    const task = acceptedTask(spec, id, now, after)
    const { runAt } = task
    const status = after.length > 0 ? 'dependent' : runAt > now ? 'delayed' : 'pending'
    const deadlineAt = queueTimeoutMs === 0 || status === 'dependent' ? null : runAt + queueTimeoutMs
    if (status === 'delayed') tx.due.addReady(runAt)
    if (deadlineAt !== null) tx.due.addWaitEnd(deadlineAt)
    const lane = laneOf(spec.group, uses)
    const takesTurns = lane !== '' && status === 'pending'
    const isLone = takesTurns && this.#groups.isLone(type, priority, lane)
    const seq = database.insert(
      'insertTask',
      id,
      type,
      status,
      priority,
      maxRetry,
      queueTimeoutMs,
      processTimeoutMs,
      now,
      runAt,
      deadlineAt,
      now,
      Object.keys(tags).length === 0 ? null : JSON.stringify(tags),
      idempotencyKey,
      idempotencyKey === null ? null : sameRequest(spec),
      lane,
      Number(isLone),
      storedUses(uses),
      after.length === 0 ? null : JSON.stringify(after),
      spec.onFailure === 'cancel' ? null : spec.onFailure,
      spec.batch,
    )
    if (takesTurns && !isLone) this.#groups.join(type, priority, lane, runAt, seq)
    if (status === 'dependent') fates.push({ seq, fate: this.#flows.begin(seq, after, spec.onFailure) })
    if (spec.batch !== null) database.run('addToBatch', spec.batch)
    database.run('insertPayload', seq, JSON.stringify(payload))
    tx.count(type, status, 1)
    tx.addEvent(eventBody({ taskId: id, type, status: 'pending', attempts: 0 }))
    tx.touchedTypes.add(type)
    this.#rates.submitted(type, 1)
    return task
  }
}

/** By index: the earlier task of a known key, or a mark that the key occurred earlier in this same batch. */
function findEarlier(tx: Tx, specs: readonly TaskSpec[]): Map<number, Task | 'in this batch'> {
  const earlier = new Map<number, Task | 'in this batch'>()
  const requests = new Map<string, string>()
  specs.forEach((spec, index) => {
    const key = spec.idempotencyKey
    if (key === null) return
    const row = requests.has(key) ? undefined : tx.database.get('requestByKey', key)
    const request = requests.get(key) ?? (row?.request as string | undefined)
    if (request === undefined) {
      requests.set(key, sameRequest(spec))
      return
    }
    if (!isSameRequest(request, spec)) {
      throw keyConflict(key, index, row ? (row.id as string) : null)
    }
    earlier.set(index, row ? taskOf(tx.database.query(`${TASKS} WHERE t.id = ?`, row.id!)[0]!) : 'in this batch')
  })
  return earlier
}
