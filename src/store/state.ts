import type { KeptAttempts } from '../task/attempt.ts'
import { XQueueError } from '../task/errors.ts'
import type { TaskEvent } from '../task/event.ts'
import type { Task, TaskSpec } from '../task/task.ts'
import type { EventsPage, EventsQuery, EventsReader, Store, Submitted } from './store.ts'

/** A store that accepts tasks under their existing ids. */
export interface Restorable extends Store {
  /**
   * Restores tasks with their ids, each once: finished ones unchanged, all others as waiting. It writes no event.
   * Oldest first, so that lists keep their order.
   */
  restore(tasks: readonly Remembered[]): Promise<Restored[]>
}

/**
 * A store that can hold the live state for another store, which keeps a log of accepted tasks and their outcomes:
 * the state decides, the log stores, and data that the state has lost is restored from the log.
 */
export interface State extends Restorable {
  /** The locations of tasks, in the order of `ids`; null for each that the state does not know. */
  locate(ids: readonly string[]): Promise<(TaskLocation | null)[]>

  /**
   * Like `Store.submit`, but refuses while the state does not have everything from its log, because tasks accepted
   * then could take the ids and keys of tasks that are still to be restored.
   * @throws XQueueError `engine_unavailable` in that case too
   */
  submit(specs: readonly TaskSpec[]): Promise<Submitted[]>

  /**
   * Returns whether the state has everything from its log. A state that does not, because it is new or has lost its
   * data, is restored by one owner at a time, under a lease that each call renews. `beginsReading` marks the state as
   * complete, and names a reader of events that starts at the first event of all. Without an owner, it only reads.
   */
  restoring(owner?: string, leaseMs?: number, beginsReading?: string): Promise<Completeness>

  /**
   * Grows before the first answer that may lack what earlier ones told of, because the state has lost recent data in
   * between; if it has lost everything, with the next answer of `events`. So what several answers say together is
   * certain if this is the same before the first of them and after a later one of `events`.
   */
  readonly incarnation: number

  /** Like `Store.events`, but marks tasks that a tick created, since the log does not have them yet. */
  events(query: EventsQuery): Promise<StatePage>

  /** Whether the named reader of events has committed this position or a later one. */
  hasRead(reader: string, position: string): Promise<boolean>
}

/** Reads the outbox of a state for a named reader; the queue has the rules of readers and passes this down. */
export type ReadNamed = (query: EventsQuery, reader: EventsReader) => Promise<StatePage & { held: boolean }>

export interface StateEvent extends TaskEvent {
  ofSchedule?: true
}

export interface StatePage extends EventsPage {
  events: StateEvent[]
}

export type TaskLocation = 'waiting' | 'delayed' | 'running' | 'finished'

/** `mine`: the caller is to restore it. `another`: another process restores it. `empty`: no process restores it yet. */
export type Completeness = 'complete' | 'mine' | 'another' | 'empty'

/** A task as the log has it, and the spec that it was submitted with, which its idempotency key represents. */
export interface Remembered {
  task: Task
  spec: TaskSpec
  /** The attempts that did not end it; default none. */
  kept?: KeptAttempts
}

/** `foreign`: this state cannot keep the task under its id, because the id belongs to another partition. */
export type Restored = 'restored' | 'known' | 'foreign'

/** The refusal of a state that is not complete. */
export function incomplete(): XQueueError {
  const detail = 'the state has lost data and is being restored from its log: try again when that is complete'
  return new XQueueError('engine_unavailable', detail, { retry_after: 1 })
}

/** @throws XQueueError `engine_unavailable` if the state may have lost data since that incarnation */
export function refuseIfLost(state: State, since: number): void {
  if (state.incarnation === since) return
  const detail = 'the state may have lost the change before Kafka had it: read what it changes, and repeat it if needed'
  throw new XQueueError('engine_unavailable', detail, { retry_after: 1 })
}

/** Whether a store can hold the state for another one. */
export function isState(engine: Store): engine is State {
  return 'locate' in engine
}

export function isRestorable(engine: Store): engine is Restorable {
  return 'restore' in engine
}
