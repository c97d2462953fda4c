import { acceptedTask, newTaskId, sameRequest, type Task, type TaskSpec } from '../../task/task.ts'
import type { EngineOptions, Submitted } from '../engine.ts'
import { keyConflict, queueFull, unknownTypes } from '../refusals.ts'
import type { Ring } from './ring.ts'
import { eventBody, taskOf } from './rows.ts'
import type { Registry } from './types.ts'
import type { Tx } from './writer.ts'

/** Accepts all specs or none: everything that can be refused is looked at before the first row is written. */
export function submit(
  tx: Tx,
  registry: Registry,
  ring: Ring,
  options: EngineOptions,
  specs: readonly TaskSpec[],
): Submitted[] {
  refuseUnknownTypes(tx, registry, specs)
  return accept(tx, ring, options, specs)
}

/** The same for tasks whose types somebody has looked at before. */
export function accept(tx: Tx, ring: Ring, options: EngineOptions, specs: readonly TaskSpec[]): Submitted[] {
  const earlier = findEarlier(tx, specs)
  refuseOverflow(tx, options, specs.length - earlier.size)
  const byKey = new Map<string, Task>()
  return specs.map((spec, index) => {
    const existing = earlier.get(index)
    if (existing)
      return { task: existing === 'in this batch' ? byKey.get(spec.idempotencyKey!)! : existing, existing: true }
    const task = insert(tx, ring, spec)
    if (spec.idempotencyKey !== null) byKey.set(spec.idempotencyKey, task)
    return { task, existing: false }
  })
}

function refuseUnknownTypes(tx: Tx, registry: Registry, specs: readonly TaskSpec[]): void {
  const unknown = new Set<string>()
  for (const type of new Set(specs.map((spec) => spec.type))) if (!registry.isKnown(type, tx.now)) unknown.add(type)
  if (unknown.size > 0) throw unknownTypes(specs, unknown, registry.known(tx.now))
}

/** By index: the earlier task of a known key, or a mark that the key came earlier in this same batch. */
function findEarlier(tx: Tx, specs: readonly TaskSpec[]): Map<number, Task | 'in this batch'> {
  const earlier = new Map<number, Task | 'in this batch'>()
  const requests = new Map<string, string>()
  specs.forEach((spec, index) => {
    const key = spec.idempotencyKey
    if (key === null) return
    const row = requests.has(key) ? undefined : tx.store.get('taskByKey', key)
    const request = requests.get(key) ?? (row?.request as string | undefined)
    if (request === undefined) {
      requests.set(key, sameRequest(spec))
      return
    }
    if (request !== sameRequest(spec)) {
      throw keyConflict(key, index, row ? (row.id as string) : null)
    }
    earlier.set(index, row ? taskOf(row) : 'in this batch')
  })
  return earlier
}

function refuseOverflow(tx: Tx, { pendingMax }: EngineOptions, more: number): void {
  if (pendingMax === null || more === 0) return
  const waiting = tx.waiting()
  if (waiting + more > pendingMax) throw queueFull(waiting, pendingMax, more)
}

function insert(tx: Tx, ring: Ring, spec: TaskSpec): Task {
  const { now, store } = tx
  const { type, priority, maxRetry, queueTimeoutMs, processTimeoutMs, idempotencyKey, tags, payload, group } = spec
  const id = newTaskId(now)
  const task = acceptedTask(spec, id, now)
  const { runAt } = task
  const status = runAt > now ? 'delayed' : 'pending'
  const deadlineAt = queueTimeoutMs === 0 ? null : runAt + queueTimeoutMs
  if (status === 'delayed') tx.due.addReady(runAt)
  if (deadlineAt !== null) tx.due.addWaitEnd(deadlineAt)
  const seq = store.insert(
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
    group ?? '',
  )
  if (group !== null && status === 'pending') ring.join({ type, priority, group, runAt, seq })
  store.run('insertPayload', seq, JSON.stringify(payload))
  tx.count(type, status, 1)
  tx.addEvent(eventBody({ taskId: id, type, status: 'pending', attempts: 0 }))
  tx.touchedTypes.add(type)
  return task
}
