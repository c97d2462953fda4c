import { refuseLimitChange } from '../store/admission.ts'
import { isRestorable } from '../store/state.ts'
import type { Store } from '../store/store.ts'
import { allAttempts } from '../task/attempt.ts'
import { logLineOf } from '../task/log-line.ts'
import { ApiKeys } from './api-keys.ts'
import { changeTasks, eraseTasks } from './changes.ts'
import { EventReader } from './event-reader.ts'
import { explain } from './explanation.ts'
import { historyOf } from './history.ts'
import type { Queue } from './queue.ts'
import { Scheduler } from './scheduler.ts'
import { statsOf, typesOf } from './statistics.ts'

/** The queue over a store. Operations that the store carries out in one step are passed to it unchanged. */
export function createQueue(store: Store): Queue {
  const scheduler = new Scheduler(store)
  const apiKeys = new ApiKeys(store)
  const events = new EventReader(store)
  return {
    url: store.url,
    turnsAtOnce: store.turnsAtOnce,
    submit: (specs) => store.submit(specs),
    turn: (turn) => store.turn(turn),
    cancel: (which) => changeTasks(store, 'cancel', which),
    retry: (which) => changeTasks(store, 'retry', which),
    erase: (ids) => eraseTasks(store, ids),
    configureType: async (type, { holdMs, ...change }) => {
      const hold = holdMs !== undefined && { heldUntil: holdMs === 0 ? null : store.now() + holdMs }
      await store.configureType(type, { ...change, ...hold })
      return (await typesOf(store, { names: [type] }))[0]!
    },
    configureLimit: async (name, { holdMs, ...change }) => {
      refuseLimitChange(name, change)
      const hold = holdMs !== undefined && { heldUntil: holdMs === 0 ? null : store.now() + holdMs }
      await store.configureLimit(name, { ...change, ...hold })
    },
    limits: async ({ names, holders = false } = {}) =>
      (await store.inspect({ types: [], limits: names ?? 'all', holders })).limits,
    declareHandlers: (handlers) => store.declareHandlers(handlers),
    sweep: (max) => store.sweep(max),
    get: (ids, options) => store.get(ids, options),
    list: (query) => store.list(query),
    predecessor: (lease, id) => store.predecessor(lease, id),
    batch: (name) => store.batch(name),
    explain: (id, options) => explain(store, id, options),
    attempts: async (id) => {
      // The task first: an attempt that ends in between is in both, and counts once.
      const [task] = await store.get([id])
      return task ? { task, ...allAttempts(task, (await store.attempts([id]))[0]!) } : null
    },
    logs: async (id, after, max) => {
      // The task first: of one that has ended then, no line is missing.
      const [task] = await store.get([id], { bare: true })
      if (!task) return null
      const { lines, leftOut } = await store.logs(id, after, max)
      return { task, lines: lines.map(logLineOf), leftOut }
    },
    history: (ring, type) => historyOf(store, ring, type),
    types: (query) => typesOf(store, query),
    workers: async () => (await store.inspect({ types: [] })).workers,
    stats: (query) => statsOf(store, query),
    events: async ({ reader, ...query }) =>
      reader ? events.read(query, reader) : { ...(await store.events(query)), held: true },
    keys: (change) => apiKeys.keys(change),
    countCalls: (key, rate, calls) => store.countCalls(key, rate, calls),
    schedules: (change) => (change ? scheduler.change(change) : scheduler.list()),
    health: () => store.health(),
    close: () => {
      events.close()
      return store.close()
    },
    ...(isRestorable(store) && { restore: (tasks) => store.restore(tasks) }),
  }
}
