import type { Json } from '../task/json.ts'
import type { FinalStatus } from '../task/status.ts'
import type { Duration, Handlers } from '../worker/handler.ts'
import { answerOf } from './answer.ts'
import { call, type Server } from './call.ts'
import type { Rate } from './limits.ts'

/** Seconds. */
export interface Percentiles {
  p50: number
  p95: number
  p99: number
}

/** Maximum values of a submission; durations in seconds, null: not set. */
export interface Ceilings {
  maxRetry: number | null
  priority: number | null
  queueTimeout: number | null
  processTimeout: number | null
  payloadBytes: number | null
}

/** A task type with its figures, limits and settings. */
export interface TaskType {
  type: string
  /** Waiting tasks, including delayed and dependent ones. */
  pending: number
  delayed: number
  dependent: number
  processing: number
  /** Maximum number of running tasks; null: no limit. */
  maxConcurrency: number | null
  /** The same for each group. */
  groupConcurrency: number | null
  /** What groups share fairly while they take turns: started tasks, or running time. */
  groupTurns: 'tasks' | 'time'
  rate: Rate | null
  /** Accepts tasks but starts none. */
  paused: boolean
  /** No task starts before this time; null: not held. */
  heldUntil: Date | null
  /** Known without a worker. */
  declared: boolean
  /** Live workers that run it. */
  workers: number
  /** Ended tasks per second, over the last minute. */
  throughput: number
  /** From `runAt` to the start; null: no recent tasks. */
  wait: Percentiles | null
  /** From the start to the end. */
  run: Percentiles | null
  /** JSON Schema of the payload, if the handler has one. */
  payloadSchema: Json
  ceilings: Ceilings
  /** Seconds that ended tasks are kept; null: as the server keeps those of any type. */
  retention: Record<FinalStatus, number | null>
}

/** Missing fields stay unchanged; null removes a value. */
export interface Declaration {
  /** False: the type is known only while workers run it; default true. */
  declared?: boolean
  ceilings?: {
    maxRetry?: number | null
    priority?: number | null
    queueTimeout?: Duration | null
    processTimeout?: Duration | null
    payloadBytes?: number | null
  }
  retention?: { [Status in FinalStatus]?: Duration | null }
}

/** The task types of a server: `client.types`. Changes need a key with the scope `admin`. */
export class TypeClient<H extends Handlers> {
  readonly #server: Server

  constructor(server: Server) {
    this.#server = server
  }

  async list(): Promise<TaskType[]> {
    return (await call<{ types: object[] }>(this.#server, 'GET', '/types')).types.map(typeOf)
  }

  /** Makes a type known without a worker; sets its ceilings and its retention. */
  async declare(type: (keyof H & string) | (string & {}), declaration: Declaration = {}): Promise<TaskType> {
    const { declared = true, ceilings, retention } = declaration
    const body = {
      declared,
      retention,
      ceilings: ceilings && {
        max_retry: ceilings.maxRetry,
        priority: ceilings.priority,
        queue_timeout: ceilings.queueTimeout,
        process_timeout: ceilings.processTimeout,
        payload_bytes: ceilings.payloadBytes,
      },
    }
    return typeOf(await call(this.#server, 'POST', pathOf(type), body))
  }

  /** Accepts its tasks, and starts none. */
  async pause(type: keyof H & string): Promise<TaskType> {
    return typeOf(await call(this.#server, 'POST', `${pathOf(type)}/pause`))
  }

  /** Starts none of its tasks until the time has passed, at most 24 hours; 0 ends the hold. Returns the end. */
  async hold(type: keyof H & string, time: Duration): Promise<Date | null> {
    const path = `/limits/${encodeURIComponent(`type:${type}`)}/hold`
    const { held_until } = await call<{ held_until: string | null }>(this.#server, 'POST', path, { for: time })
    return held_until === null ? null : new Date(held_until)
  }

  /** Ends its pause and its hold. */
  async resume(type: keyof H & string): Promise<TaskType> {
    return typeOf(await call(this.#server, 'POST', `${pathOf(type)}/resume`))
  }
}

function pathOf(type: string): string {
  return `/types/${encodeURIComponent(type)}`
}

function typeOf(json: object): TaskType {
  const type = answerOf<TaskType>(json, ['heldUntil'])
  return { ...type, ceilings: answerOf(type.ceilings) }
}
