import type { Stats, TypeInfo, WorkerInfo } from '../queue/queue.ts'

/**
 * The statistics of a tenant, from its types and workers.
 *
 * @param tally the counts of its tasks, and their throughput if its types have tasks of other tenants too
 */
export function statsWithin(
  types: readonly TypeInfo[],
  workers: readonly WorkerInfo[],
  { counts, throughput }: Pick<Stats, 'counts'> & { throughput?: number },
): Stats {
  const sum = (of: (info: TypeInfo) => number) => types.reduce((all, info) => all + of(info), 0)
  const [pending, processing] = [sum((info) => info.pending), sum((info) => info.processing)]
  const limited = types.filter(({ maxConcurrency }) => maxConcurrency !== null)
  const now = Date.now()
  return {
    counts: { ...counts, pending, processing },
    delayed: sum(({ delayed }) => delayed),
    dependent: sum(({ dependent }) => dependent),
    runnable: null,
    throughput: throughput ?? sum((info) => info.throughput),
    concurrencyLimits: Object.fromEntries(limited.map(({ type, maxConcurrency }) => [type, maxConcurrency!])),
    stream: {
      length: pending + processing,
      groups: types.length,
      consumers: workers.map(({ id, running, lastSeen }) => ({ name: id, pending: running, idle: now - lastSeen })),
      streams: types.map((info) => ({ name: info.type, length: info.pending + info.processing })),
    },
  }
}
