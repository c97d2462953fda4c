import { readdirSync, readFileSync } from 'node:fs'

/** Linux counts in hundredths of a second. */
const TICK_US = 10_000

/**
 * CPU time of processes and of all their descendants, ended ones included: a server like PostgreSQL has a process for
 * each connection.
 */
export function cpuMicrosOf(roots: readonly number[]): number {
  // A process that ends while they are read may be missing in one of two readings.
  return Math.max(reading(roots), reading(roots))
}

function reading(roots: readonly number[]): number {
  const childrenOf = new Map<number, number[]>()
  const ticksOf = new Map<number, number>()
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const stat = statOf(entry)
    if (!stat) continue
    const [pid, parent] = [Number(entry), Number(stat[1])]
    // utime, stime, and those of children that it has waited for
    ticksOf.set(
      pid,
      [11, 12, 13, 14].reduce((sum, field) => sum + Number(stat[field]), 0),
    )
    childrenOf.set(parent, [...(childrenOf.get(parent) ?? []), pid])
  }
  const ticks = (pid: number): number =>
    (ticksOf.get(pid) ?? 0) + (childrenOf.get(pid) ?? []).reduce((sum, child) => sum + ticks(child), 0)
  return roots.reduce((sum, root) => sum + ticks(root), 0) * TICK_US
}

/** The fields from the state on; null if the process has ended meanwhile. */
function statOf(pid: string): string[] | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(') ') + 2).split(' ')
  } catch {
    return null
  }
}
