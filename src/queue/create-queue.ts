import { isRestorable } from '../store/state.ts'
import type { Store } from '../store/store.ts'
import { changeTasks, eraseTasks } from './changes.ts'
import { explain } from './explanation.ts'
import type { Queue } from './queue.ts'
import { statsOf, typesOf } from './statistics.ts'

/** The queue over a store. Operations that the store carries out in one step are passed to it unchanged. */
export function createQueue(store: Store): Queue {
  return {
    url: store.url,
    turnsAtOnce: store.turnsAtOnce,
    submit: (specs) => store.submit(specs),
    turn: (turn) => store.turn(turn),
    cancel: (which) => changeTasks(store, 'cancel', which),
    retry: (which) => changeTasks(store, 'retry', which),
    erase: (ids) => eraseTasks(store, ids),
    configureType: async (type, change) => {
      await store.configureType(type, change)
      return (await typesOf(store, { names: [type] }))[0]!
    },
    declareHandlers: (handlers) => store.declareHandlers(handlers),
    sweep: (max) => store.sweep(max),
    get: (ids, options) => store.get(ids, options),
    list: (query) => store.list(query),
    predecessor: (lease, id) => store.predecessor(lease, id),
    batch: (name) => store.batch(name),
    explain: (id) => explain(store, id),
    types: (query) => typesOf(store, query),
    workers: async () => (await store.inspect({ types: [] })).workers,
    stats: () => statsOf(store),
    events: (query) => store.events(query),
    keys: (change) => store.keys(change),
    countCalls: (key, rate, calls) => store.countCalls(key, rate, calls),
    schedules: (change) => store.schedules(change),
    health: () => store.health(),
    close: () => store.close(),
    ...(isRestorable(store) && { restore: (tasks) => store.restore(tasks) }),
  }
}
