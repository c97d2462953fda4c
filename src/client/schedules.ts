import type { Json } from '../task/json.ts'
import type { CatchUp, Overlap } from '../task/schedule.ts'
import type { ScheduleJson } from '../task/schedule-input.ts'
import type { Duration, Handlers, PayloadOf } from '../worker/handler.ts'
import { call, type Server } from './call.ts'
import { inputOf, type SubmitOptions } from './submission.ts'

/** Options of a schedule: its ticks, their handling, and the fields of its tasks. */
export interface ScheduleOptions extends Omit<SubmitOptions, 'delay' | 'runAt' | 'idempotencyKey'> {
  /** Five fields, such as "30 2 * * MON-FRI"; or use `every`. */
  cron?: string
  /** IANA name, with `cron`; default UTC. */
  timezone?: string
  /** From 1 second to 366 days, counted from 1970 in UTC, such as "15m". */
  every?: Duration
  /** Handling of missed ticks; default `one`: one task for all of them. */
  catchUp?: CatchUp
  /** `skip`: no task while the previous one has not ended; default `allow`. */
  overlap?: Overlap
  paused?: boolean
}

/** Times are milliseconds since the epoch. */
export interface ClientSchedule {
  id: string
  type: string
  payload: Json
  priority: number
  maxRetry: number
  queueTimeoutMs: number
  processTimeoutMs: number
  tags: Readonly<Record<string, string>>
  group: string | null
  cron: string | null
  timezone: string | null
  everyMs: number | null
  catchUp: CatchUp
  overlap: Overlap
  paused: boolean
  nextAt: number | null
  lastAt: number | null
  lastTaskId: string | null
  createdAt: number
  updatedAt: number
  /** The next five ticks. */
  upcoming: number[]
}

/** The schedules of a server: `client.schedules`. */
export class ScheduleClient<H extends Handlers> {
  readonly #server: Server

  constructor(server: Server) {
    this.#server = server
  }

  /** Adds a schedule; adding an equal one changes nothing. */
  async add<Type extends keyof H & string>(
    id: string,
    type: Type,
    payload: PayloadOf<H, Type>,
    options: ScheduleOptions,
  ): Promise<ClientSchedule> {
    return this.#call('POST', '', { id, ...bodyOf({ ...options, type, payload }) })
  }

  async list(): Promise<ClientSchedule[]> {
    const { schedules } = await call<{ schedules: ScheduleJson[] }>(this.#server, 'GET', '/schedules')
    return schedules.map(scheduleOf)
  }

  get(id: string): Promise<ClientSchedule> {
    return this.#call('GET', pathOf(id))
  }

  /** Changes the given fields. */
  change(id: string, changes: ScheduleOptions & { payload?: unknown }): Promise<ClientSchedule> {
    return this.#call('PATCH', pathOf(id), bodyOf(changes))
  }

  pause(id: string): Promise<ClientSchedule> {
    return this.change(id, { paused: true })
  }

  /** Resumes from now; ticks during the pause create no tasks. */
  resume(id: string): Promise<ClientSchedule> {
    return this.change(id, { paused: false })
  }

  /** Creates its task now; `lastTaskId` is the task's id. */
  run(id: string): Promise<ClientSchedule> {
    return this.#call('POST', `${pathOf(id)}/run`)
  }

  async remove(id: string): Promise<void> {
    await this.#call('DELETE', pathOf(id))
  }

  async #call(method: string, path: string, body?: object): Promise<ClientSchedule> {
    return scheduleOf(await call(this.#server, method, `/schedules${path}`, body))
  }
}

function pathOf(id: string): string {
  return `/${encodeURIComponent(id)}`
}

/** JSON omits undefined fields. */
function bodyOf(options: ScheduleOptions & { type?: string; payload?: unknown }) {
  const { cron, timezone, every, catchUp, overlap, paused, ...task } = options
  return { ...inputOf(task), cron, timezone, every, catch_up: catchUp, overlap, paused }
}

function scheduleOf(answer: ScheduleJson): ClientSchedule {
  const time = (text: string | null) => (text === null ? null : Date.parse(text))
  return {
    id: answer.id,
    type: answer.type,
    payload: answer.payload,
    priority: answer.priority,
    maxRetry: answer.max_retry,
    queueTimeoutMs: answer.queue_timeout * 1_000,
    processTimeoutMs: answer.process_timeout * 1_000,
    tags: answer.tags,
    group: answer.group,
    cron: answer.cron,
    timezone: answer.timezone,
    everyMs: answer.every === null ? null : answer.every * 1_000,
    catchUp: answer.catch_up,
    overlap: answer.overlap,
    paused: answer.paused,
    nextAt: time(answer.next_at),
    lastAt: time(answer.last_at),
    lastTaskId: answer.last_task_id,
    createdAt: Date.parse(answer.created_at),
    updatedAt: Date.parse(answer.updated_at),
    upcoming: answer.upcoming.map((text) => Date.parse(text)),
  }
}
