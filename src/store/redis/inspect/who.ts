import type { RecentSlot } from '../../rates.ts'
import type { WorkerInfo } from '../../store.ts'

/** Workers and statistics from the answers of who.lua and inspect.lua. */

/** The answer of who.lua. */
export type WhoReply = [
  types: string[],
  workers: StoredWorker[],
  worked: string[],
  groupsRunning: string[],
  slots: [slot: string, fields: string[]][],
  next: string,
]
type StoredWorker = [id: string, description: string, lastSeen: string]

export type Who = ReturnType<typeof readWho>

export function readWho([types, workers, worked, groupsRunning, slots, next]: WhoReply) {
  return {
    types,
    workers,
    /** Attempts by `+<worker>` (successful) and `-<worker>` (failed). */
    worked: pairs(worked),
    /** By worker, the leases of groups. */
    groupsRunning: new Map([...pairs(groupsRunning)].map(([json, tasks]) => [JSON.parse(json) as string, tasks])),
    slots: slots.map(([slot, fields]) => ({ slot: Number(slot), fields })),
    /** The slot to continue with. */
    next: next === '' ? null : Number(next),
  }
}

/** Workers of all partitions: one that serves types in several occurs more than once. */
export function workersOf(abouts: readonly { workers: WorkerInfo[] }[]): WorkerInfo[] {
  const all = new Map<string, WorkerInfo>()
  for (const worker of abouts.flatMap(({ workers }) => workers)) {
    const same = all.get(worker.id)
    all.set(worker.id, same ? together(same, worker) : worker)
  }
  return [...all.values()].sort((a, b) => a.startedAt - b.startedAt || (a.id < b.id ? -1 : 1))
}

function together(a: WorkerInfo, b: WorkerInfo): WorkerInfo {
  return {
    ...a,
    running: a.running + b.running,
    lastSeen: Math.max(a.lastSeen, b.lastSeen),
    processed: a.processed + b.processed,
    failed: a.failed + b.failed,
  }
}

export function readWorkers(
  workers: readonly StoredWorker[],
  worked: Map<string, number>,
  running: Map<string, number>,
): WorkerInfo[] {
  return workers.map(([id, description, lastSeen]) => ({
    ...JSON.parse(description),
    lastSeen: Number(lastSeen),
    running: running.get(id) ?? 0,
    processed: worked.get(`+${id}`) ?? 0,
    failed: worked.get(`-${id}`) ?? 0,
  }))
}

/** The fields of one slot, by type; see rates.lua. */
export function slotsOf(fields: readonly string[]): Map<string, RecentSlot> {
  const slots = new Map<string, RecentSlot>()
  for (const [field, n] of pairs(fields)) {
    const [type = '', what = ''] = field.split(' ')
    const slot = slots.get(type) ?? { finished: 0, wait: [], run: [] }
    slots.set(type, slot)
    if (what === 'f') slot.finished = n
    else (what[0] === 'w' ? slot.wait : slot.run)[Number(what.slice(1))] = n
  }
  return slots
}

/** `[name, number, name, number, …]` */
export function pairs(list: readonly (string | number)[]): Map<string, number> {
  const found = new Map<string, number>()
  for (let index = 0; index < list.length; index += 2) found.set(String(list[index]), Number(list[index + 1]))
  return found
}
