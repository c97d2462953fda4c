import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Queue } from '../queue/queue.ts'
import type { TaskEvent } from '../task/event.ts'
import { Type } from '../task/json-schema.ts'
import { isFinal } from '../task/status.ts'
import type { Task } from '../task/task.ts'
import { durationOf } from '../task/task-input.ts'
import { taskText } from '../task/task-json.ts'
import { CallerQuota } from './caller-quota.ts'
import { WAIT_MS_MAX, waitMsOf } from './claims.ts'
import { CompletionWatcher } from './completion-watcher.ts'
import { PATIENCE } from './connections.ts'
import { drained } from './events.ts'
import { ofText } from './fields.ts'
import type { Route, ServerContext } from './route.ts'
import { Slots } from './slots.ts'
import { whileConnected } from './while-connected.ts'

/** Generators of clients know no type of lines of JSON. */
const LINES_TYPE = 'text/plain'
const IDS_MAX = 1_000
const WAIT_S = 30
/** Calls of one caller, and tasks of all of them. */
const CALLS_MAX = 1_000
const TASKS_MAX = 100_000
/** Characters of lines that the calls of one caller have not read. */
const UNREAD_MAX = 128 * 1024 * 1024
/** Characters of the events that all calls hold. */
const EVENTS_CHARS_MAX = 64 * 1024 * 1024
/** Readings of all calls at the same time. A store that carries out more of them answers nothing else meanwhile. */
const READINGS_MAX = 4
/** Tasks whose states are read at once. */
const LOOKED_AT_ONCE = 100
/** Tasks that are read in full at once while those of a call are small; others one by one: each can have 2 MiB. */
const SMALL_READ_AT_ONCE = 32
const SMALL_CHARS = 16 * 1024

interface Body {
  ids: string[]
  wait?: number | string
}

/** POST /api/v1/tasks/wait. */
export function waitRoutes(context: ServerContext): Route[] {
  const watchers = new WeakMap<Queue, CompletionWatcher>()
  const shared = { heldChars: 0, readings: new Slots(READINGS_MAX, WAIT_MS_MAX) }
  const watcherOf = (queue: Queue) => {
    const watcher = watchers.get(queue) ?? new CompletionWatcher(queue)
    watchers.set(queue, watcher)
    return watcher
  }
  const calls = new CallerQuota(
    CALLS_MAX,
    `this caller has ${CALLS_MAX} waiting calls, the maximum: wait for more tasks in one call`,
  )
  const tasks = new CallerQuota(
    TASKS_MAX,
    `this caller waits for ${TASKS_MAX} tasks, the maximum: wait for some of them`,
  )
  const unread = new CallerQuota(UNREAD_MAX, 'this caller does not read the answers of its waiting calls')
  return [
    {
      method: 'POST',
      url: '/api/v1/tasks/wait',
      scope: 'read',
      quiet: true,
      // It takes the place of many calls that read.
      vital: true,
      summary: 'Wait for the ends of tasks',
      body: Type.Object(
        {
          ids: Type.Array(Type.String({ maxLength: 100 }), { minItems: 1, maxItems: IDS_MAX }),
          wait: Type.Optional(durationOf({ title: 'EndsWait', meaning: 'Default 30 s. ', most: WAIT_MS_MAX })),
        },
        { additionalProperties: false },
      ),
      answers: {
        200: ofText(
          LINES_TYPE,
          'A line of JSON for each task as soon as it has ended: the task, or `{"id", "status": null}` if there is ' +
            'no such task. Empty lines show that the call waits. The answer ends when all have a line or the wait is ' +
            'over',
        ),
      },
      refusals: ['invalid_duration'],
      handler: async (request, reply) => {
        const { ids, wait = WAIT_S } = request.body as Body
        const waitMs = waitMsOf({ wait })
        const { id } = request.principal!
        calls.add(id, reply.raw)
        tasks.add(id, reply.raw, ids.length)
        const queue = context.queueOfCaller()
        const waiting = new Waiting(queue, ids, shared)
        return sendLines(context, request, reply, unread, (signal) => waiting.lines(watcherOf(queue), waitMs, signal))
      },
    },
  ]
}

/** Sends lines as they come, until there are no more, or the caller is gone or reads nothing for long. */
function sendLines(
  context: ServerContext,
  request: FastifyRequest,
  reply: FastifyReply,
  unread: CallerQuota,
  lines: (signal: AbortSignal) => AsyncIterable<string[]>,
): FastifyReply {
  const { drainMs, heartbeatMs } = context.patience ?? PATIENCE
  const { id } = request.principal!
  const out = new PassThrough()
  // Proxies end answers that are silent for long.
  const heartbeat = setInterval(() => out.write('\n'), heartbeatMs)
  const sent = whileConnected(request, reply.raw, context, async (signal) => {
    for await (const some of lines(signal)) {
      const chars = charsOf(some)
      unread.take(id, chars)
      try {
        for (const line of some) if (!out.write(line)) await drained(out, signal, drainMs)
      } finally {
        unread.give(id, chars)
      }
    }
  })
  sent
    .then(
      () => out.end(),
      (error) => out.destroy(error),
    )
    .finally(() => clearInterval(heartbeat))
  // Proxies would collect the lines.
  return reply.header('X-Accel-Buffering', 'no').type(`${LINES_TYPE}; charset=utf-8`).send(out)
}

/** What all calls have together. */
interface Shared {
  /** Characters of the events that they hold. */
  heldChars: number
  readings: Slots
}

/** An event, and its size among those that all calls hold. */
interface Held {
  event: TaskEvent
  chars: number
}

/** The tasks of a call. */
class Waiting {
  readonly #queue: Queue
  /** Those without a line, as they were at first. */
  readonly #open: Map<string, Task | null>
  /** Those of them that may have ended, with the events that said so. */
  readonly #ended = new Map<string, Held | null>()
  readonly #shared: Shared
  #news = Promise.withResolvers<void>()

  constructor(queue: Queue, ids: readonly string[], shared: Shared) {
    this.#queue = queue
    this.#open = new Map(ids.map((id) => [id, null]))
    this.#shared = shared
  }

  /** The lines of tasks as they end, until all have one, `waitMs` is over, or `signal` aborts. */
  async *lines(watcher: CompletionWatcher, waitMs: number, signal: AbortSignal): AsyncGenerator<string[]> {
    const over = AbortSignal.any([signal, AbortSignal.timeout(waitMs)])
    const isOver = over.aborted ? null : once(over, 'abort')
    let atOnce = 1
    const leave = await watcher.watch([...this.#open.keys()], (id, event) => this.#mayHaveEnded(id, event))
    try {
      for await (const [id, task] of statesOf(this.#queue, [...this.#open.keys()])) {
        this.#open.set(id, task)
        if (task === null || isFinal(task.status)) this.#mayHaveEnded(id, null)
      }
      // Shows that the call waits.
      if (this.#ended.size < this.#open.size) yield ['\n']
      for (;;) {
        while (this.#ended.size > 0 && !signal.aborted) {
          const lines = await this.#shared.readings.run(() => this.#linesOfEnded(atOnce))
          atOnce = charsOf(lines) <= lines.length * SMALL_CHARS ? SMALL_READ_AT_ONCE : 1
          yield lines
        }
        if (this.#open.size === 0 || over.aborted) return
        this.#news = Promise.withResolvers()
        await Promise.race([this.#news.promise, isOver])
      }
    } finally {
      leave()
      for (const held of this.#ended.values()) this.#release(held)
      this.#ended.clear()
    }
  }

  #mayHaveEnded(id: string, event: TaskEvent | null): void {
    if (!this.#open.has(id)) return
    const before = this.#ended.get(id) ?? null
    const held = event && this.#hold(event)
    if (held) this.#release(before)
    this.#ended.set(id, held ?? before)
    this.#news.resolve()
  }

  #hold(event: TaskEvent): Held | null {
    const chars = JSON.stringify(event.result).length + (event.error?.length ?? 0)
    if (this.#shared.heldChars + chars > EVENTS_CHARS_MAX) return null
    this.#shared.heldChars += chars
    return { event, chars }
  }

  #release(held: Held | null): void {
    this.#shared.heldChars -= held?.chars ?? 0
  }

  /** The lines of the next tasks that have ended. */
  async #linesOfEnded(count: number): Promise<string[]> {
    const some = this.#ended.entries().take(count).toArray()
    for (const [id] of some) this.#ended.delete(id)
    try {
      const tasks = await this.#queue.get(some.map(([id]) => id))
      return some.flatMap(([id, held], index) => {
        const task = tasks[index] ?? lastSeen(this.#open.get(id), held?.event)
        // It runs again, or has its line.
        if ((task && !isFinal(task.status)) || !this.#open.delete(id)) return []
        return [`${task ? taskText(task) : JSON.stringify({ id, status: null })}\n`]
      })
    } finally {
      for (const [, held] of some) this.#release(held)
    }
  }
}

async function* statesOf(queue: Queue, ids: readonly string[]): AsyncGenerator<[string, Task | null]> {
  for (let from = 0; from < ids.length; from += LOOKED_AT_ONCE) {
    const some = ids.slice(from, from + LOOKED_AT_ONCE)
    const tasks = await queue.get(some, { bare: true })
    for (const [index, id] of some.entries()) yield [id, tasks[index]!]
  }
}

/** A task that has ended and is no longer kept, without its payload. */
function lastSeen(before: Task | null | undefined, event: TaskEvent | undefined): Task | null {
  if (!before || !event) return null
  const { status, attempts, result, error, timeoutReason, workerId, at } = event
  return { ...before, status, attempts, result, error, timeoutReason, workerId, updatedAt: at, completedAt: at }
}

function charsOf(lines: readonly string[]): number {
  return lines.reduce((sum, { length }) => sum + length, 0)
}
