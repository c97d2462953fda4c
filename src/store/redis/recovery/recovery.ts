import { attemptText } from '../../../task/attempt.ts'
import { isFinal } from '../../../task/status.ts'
import { sameRequest } from '../../../task/task.ts'
import type { Completeness, Remembered, Restored, TaskLocation } from '../../state.ts'
import type { StoreOptions } from '../../store.ts'
import type { Database } from '../client/database.ts'
import { nameOf, placeOf } from '../records/ids.ts'
import { NO_EXTRAS } from '../records/keys.ts'
import { completeExtras, extrasOf, headOf } from '../records/rows.ts'

/** Maximum number of tasks, and of bytes, of one step. */
const TASKS_MAX = 500
const LOCATED_MAX = 1_000
const LEAST_COMPLETE_FIRST = ['empty', 'another', 'mine', 'complete'] as const
const LOCATIONS: Readonly<Record<string, TaskLocation>> = {
  waiting: 'waiting',
  delayed: 'delayed',
  dependent: 'delayed',
  running: 'running',
  finished: 'finished',
}

/** The operations of Redis as the state of a store that keeps a log, see state.ts. */
export class Recovery {
  readonly #database: Database
  readonly #options: StoreOptions

  constructor(database: Database, options: StoreOptions) {
    this.#database = database
    this.#options = options
  }

  async locate(ids: readonly string[]): Promise<(TaskLocation | null)[]> {
    const locations: (TaskLocation | null)[] = ids.map(() => null)
    await this.#inPlaces(ids, LOCATED_MAX, async (partition, some) => {
      const places = await this.#database.run<string[]>('locate', partition, [
        some.length,
        ...some.map(({ ref }) => ref),
      ])
      some.forEach(({ index }, at) => {
        locations[index] = LOCATIONS[places[at]!] ?? null
      })
    })
    return locations
  }

  async restore(tasks: readonly Remembered[]): Promise<Restored[]> {
    const restored: Restored[] = tasks.map(() => 'foreign')
    const ids = tasks.map(({ task }) => task.id)
    await this.#inPlaces(ids, TASKS_MAX, async (partition, all) => {
      const some = all.filter(({ index }) => this.#database.partitionOf(tasks[index]!.task.type) === partition)
      if (some.length === 0) return
      await this.#database.partitions.add(partition)
      const args = some.flatMap(({ index, ref }) => textsOf(tasks[index]!, ref))
      const answers = await this.#database.run<Restored[]>('restore', partition, [
        this.#options.retention.ageMs,
        some.length,
        ...args,
      ])
      some.forEach(({ index }, at) => {
        restored[index] = answers[at]!
      })
    })
    return restored
  }

  /**
   * Each partition answers for itself, because a node can lose its own data only; the least complete partition decides.
   */
  async restoring(owner = '', leaseMs = 0, beginsReading = ''): Promise<Completeness> {
    const done = beginsReading === '' ? '' : '1'
    const ask = (partition: number) => {
      // Readers are kept in the first partition.
      const reader = partition === 0 ? [beginsReading, this.#database.count === 1 ? '0' : '0:0'] : ['', '']
      // The lease uses the time of Redis, regardless of the clock option.
      const args = ['', owner, String(leaseMs), done, ...reader]
      return this.#database.link.run<Completeness>('restoring', partition, args)
    }
    const all = owner === '' ? await Promise.all(this.#database.perPartition(ask)) : await this.#inOrder(ask)
    return LEAST_COMPLETE_FIRST.find((completeness) => all.includes(completeness))!
  }

  /**
   * Acquires one partition after the other, until another owner has one: two owners that each hold some of them would
   * wait for each other for ever.
   */
  async #inOrder(ask: (partition: number) => Promise<Completeness>): Promise<Completeness[]> {
    const all: Completeness[] = []
    while (all.length < this.#database.count && all.at(-1) !== 'another') all.push(await ask(all.length))
    return all
  }

  /** In each partition, some at a time, in the given order. Ids of other queues are skipped. */
  async #inPlaces(
    ids: readonly string[],
    most: number,
    act: (partition: number, some: { index: number; ref: string }[]) => Promise<void>,
  ): Promise<void> {
    const places = ids.flatMap((id, index) => {
      const place = placeOf(id)
      return place && place.partition < this.#database.count ? [{ index, ...place }] : []
    })
    const byPartition = [...Map.groupBy(places, ({ partition }) => partition)]
    await Promise.all(
      byPartition.map(async ([partition, here]) => {
        for (let from = 0; from < here.length; from += most) await act(partition, here.slice(from, from + most))
      }),
    )
  }
}

/** The arguments of one task, see restore.lua. */
function textsOf({ task, spec, kept }: Remembered, ref: string): (string | number)[] {
  const { type, priority, status, payload, attempts, deliveries, runAt, startedAt, updatedAt } = task
  const worker = JSON.stringify(task.workerId)
  const again = [ref, attempts, 0, deliveries, runAt, startedAt ?? 0, updatedAt, worker]
  const head = `${headOf(task)},${again.join(',')}`
  const names = task.after.flatMap((id) => placeOf(id) ?? []).map(nameOf)
  const extras = completeExtras(extrasOf(task) || NO_EXTRAS, names, task.uses)
  const texts = kept?.attempts.map(attemptText) ?? []
  const earlier = [texts.length, kept?.leftOut ?? 0, ...texts]
  const what = [ref, type, priority, head, extras, JSON.stringify(payload)]
  const request = task.idempotencyKey === null ? '' : sameRequest(spec)
  if (!isFinal(status)) return [...what, JSON.stringify(task.error), request, runAt, ...earlier, '']
  const { queueTimeoutMs, processTimeoutMs, maxRetry, completedAt } = task
  const tail = [0, deliveries, queueTimeoutMs, processTimeoutMs, maxRetry, runAt, startedAt ?? 0, worker]
  const first = [status, task.timeoutReason ?? '', completedAt, attempts, ...tail].join('|')
  const end = [task.error, task.progress, task.result].map((value) => JSON.stringify(value))
  return [...what, 'null', request, runAt, ...earlier, completedAt!, status, first, ...end]
}
