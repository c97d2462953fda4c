import { XQueueError } from '../task/errors.ts'
import type { TaskEvent } from '../task/event.ts'
import type { Task, TaskSpec } from '../task/task.ts'
import type { Engine, EventsPage, EventsQuery, Submitted } from './engine.ts'

/** An engine that takes tasks with the ids that they have. */
export interface Restorable extends Engine {
  /**
   * Takes back tasks with their ids, each once: finished ones as they were, all others as waiting. No event tells of
   * it. Oldest first, so that lists keep their order.
   */
  restore(tasks: readonly Remembered[]): Promise<Restored[]>
}

/**
 * An engine that can hold the live state for another one, which keeps a log of what was accepted and what came of it:
 * the state decides, the log remembers, and what the state has lost is restored from the log.
 */
export interface State extends Restorable {
  /** Where tasks stand, in the order asked for; null where the state knows of none. */
  locate(ids: readonly string[]): Promise<(TaskLocation | null)[]>

  /**
   * As every engine's, but refuses while the state has not everything that its log told it: what it accepted then could
   * take the places of what is to be restored.
   * @throws XQueueError `engine_unavailable` in that case too
   */
  submit(specs: readonly TaskSpec[]): Promise<Submitted[]>

  /**
   * Whether the state has everything that its log told it. One that has not, being new or having lost all of it, is
   * restored by one owner at a time, under a lease that each call renews. `beginsReading` says that it is complete now,
   * and names a reader of events that begins with the first one there ever was. Without an owner, only looks.
   */
  restoring(owner?: string, leaseMs?: number, beginsReading?: string): Promise<Completeness>

  /**
   * As every engine's; but what a tick has made is told as such, since the log has not heard of it, and a reader that
   * `resumes` holds nothing until `restoring` has told where it begins.
   */
  events(query: ResumingQuery): Promise<StatePage>

  /** Whether the named reader of events has committed a position, or one after it. */
  hasRead(reader: string, position: string): Promise<boolean>
}

export type ResumingQuery = EventsQuery & { resumes?: boolean }

export interface StateEvent extends TaskEvent {
  ofSchedule?: true
}

export interface StatePage extends EventsPage {
  events: StateEvent[]
}

export type TaskLocation = 'waiting' | 'delayed' | 'running' | 'finished'

/** `mine`: the caller is to restore it. `another`: somebody else does. `empty`: nobody does yet. */
export type Completeness = 'complete' | 'mine' | 'another' | 'empty'

/** A task as the log knows it, and what was asked for, which its idempotency key stands for. */
export interface Remembered {
  task: Task
  spec: TaskSpec
}

/** `foreign`: this state cannot keep it under its id, because the id was made for another place. */
export type Restored = 'restored' | 'known' | 'foreign'

/** What is asked of a state that is not complete. */
export function incomplete(): XQueueError {
  const detail = 'the state has lost what it had and is being restored from its log: this can be done when it is'
  return new XQueueError('engine_unavailable', detail, { retry_after: 1 })
}

/** Whether an engine can hold the state for another. */
export function isState(engine: Engine): engine is State {
  return 'locate' in engine
}

export function isRestorable(engine: Engine): engine is Restorable {
  return 'restore' in engine
}
