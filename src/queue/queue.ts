import type { Restorable } from '../store/state.ts'
import type { Store } from '../store/store.ts'

export {
  STORE_DEFAULTS as QUEUE_DEFAULTS,
  type StoreOptions as QueueOptions,
} from '../store/options.ts'
export {
  type CallsCounted,
  type Changed,
  type ChangeOutcome,
  type EventsPage,
  type EventsQuery,
  type EventsReader,
  type Explanation,
  type HandlerSettings,
  type Health,
  type Holder,
  type KeyChange,
  type Keys,
  type Lease,
  type ListQuery,
  PAGE_BYTES_MAX,
  type Page,
  type PartitionInfo,
  type Percentiles,
  RATE_LIMITS,
  type Rate,
  type Renewed,
  type ScheduleChange,
  type Settled,
  type Stats,
  type StreamInfo,
  type Submitted,
  type Swept,
  type TaskFilter,
  type Turn,
  type TurnAnswer,
  TYPES_NAMED_MAX,
  type TypeChange,
  type TypeInfo,
  type Which,
  type WorkerIdentity,
  type WorkerInfo,
} from '../store/store.ts'

/**
 * The task queue as server, worker, client and CLI use it. `createQueue` implements it over any `Store`: the rules of
 * the product are in this folder, and stores carry out atomic steps. `test/queue-contract/` specifies every method, and
 * runs on every store.
 */
export interface Queue
  extends Pick<
    Store,
    | 'url'
    | 'turnsAtOnce'
    | 'submit'
    | 'turn'
    | 'cancel'
    | 'retry'
    | 'erase'
    | 'configureType'
    | 'declareHandlers'
    | 'sweep'
    | 'get'
    | 'list'
    | 'predecessor'
    | 'batch'
    | 'explain'
    | 'types'
    | 'workers'
    | 'stats'
    | 'events'
    | 'keys'
    | 'countCalls'
    | 'schedules'
    | 'health'
    | 'close'
  > {
  /** Stores tasks under their existing ids; only with a store that can, see `Restorable`. */
  readonly restore?: Restorable['restore']
}
