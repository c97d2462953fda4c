import type { Slot } from '../../rates.ts'
import type { WorkerInfo } from '../../store.ts'

/** Workers and statistics from the answers of who.lua and inspect.lua. */

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
  workers: readonly string[],
  worked: Map<string, number>,
  running: Map<string, number>,
): WorkerInfo[] {
  const found: WorkerInfo[] = []
  for (let index = 0; index < workers.length; index += 3) {
    const id = workers[index]!
    const json = JSON.stringify(id)
    found.push({
      ...JSON.parse(workers[index + 1]!),
      lastSeen: Number(workers[index + 2]),
      running: running.get(id) ?? 0,
      processed: worked.get(`+${json}`) ?? 0,
      failed: worked.get(`-${json}`) ?? 0,
    })
  }
  return found
}

/** The fields of one slot, by type; see rates.lua. */
export function slotsOf(fields: readonly string[]): Map<string, Slot> {
  const slots = new Map<string, Slot>()
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
