import type { Json } from '../task/json.ts'
import type { CatchUp, Overlap } from '../task/schedule.ts'
import type { Duration, Handlers, PayloadOf } from '../worker/handler.ts'
import { answerOf } from './answer.ts'
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

/** Durations are seconds. */
export interface Schedule {
  id: string
  type: string
  payload: Json
  priority: number
  maxRetry: number
  queueTimeout: number
  processTimeout: number
  tags: Readonly<Record<string, string>>
  group: string | null
  uses: Readonly<Record<string, number>>
  cron: string | null
  timezone: string | null
  every: number | null
  catchUp: CatchUp
  overlap: Overlap
  paused: boolean
  nextAt: Date | null
  lastAt: Date | null
  lastTaskId: string | null
  createdAt: Date
  updatedAt: Date
  /** The next five ticks. */
  upcoming: Date[]
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
  ): Promise<Schedule> {
    return this.#call('POST', '', { id, ...bodyOf({ ...options, type, payload }) })
  }

  async list(): Promise<Schedule[]> {
    const { schedules } = await call<{ schedules: object[] }>(this.#server, 'GET', '/schedules')
    return schedules.map(scheduleOf)
  }

  get(id: string): Promise<Schedule> {
    return this.#call('GET', pathOf(id))
  }

  /** Changes the given fields. */
  change(id: string, changes: ScheduleOptions & { payload?: unknown }): Promise<Schedule> {
    return this.#call('PATCH', pathOf(id), bodyOf(changes))
  }

  pause(id: string): Promise<Schedule> {
    return this.change(id, { paused: true })
  }

  /** Resumes from now; ticks during the pause create no tasks. */
  resume(id: string): Promise<Schedule> {
    return this.change(id, { paused: false })
  }

  /** Creates its task now; `lastTaskId` is the task's id. */
  run(id: string): Promise<Schedule> {
    return this.#call('POST', `${pathOf(id)}/run`)
  }

  async remove(id: string): Promise<void> {
    await this.#call('DELETE', pathOf(id))
  }

  async #call(method: string, path: string, body?: object): Promise<Schedule> {
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

function scheduleOf(json: object): Schedule {
  const schedule = answerOf<Schedule>(json, ['nextAt', 'lastAt', 'createdAt', 'updatedAt'])
  return { ...schedule, upcoming: schedule.upcoming.map((time) => new Date(time)) }
}
