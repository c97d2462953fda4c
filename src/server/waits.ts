import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { Queue } from '../queue/queue.ts'
import { invalidField } from '../task/errors.ts'
import type { TaskEvent } from '../task/event.ts'
import { isFinal } from '../task/status.ts'
import type { Task } from '../task/task.ts'
import { durationOf } from '../task/task-input.ts'
import { taskText } from '../task/task-json.ts'
import { durationMs } from './claims.ts'
import { PATIENCE } from './connections.ts'
import { Ends } from './ends.ts'
import { ofText } from './fields.ts'
import { OpenCalls } from './open-calls.ts'
import type { Route, ServerContext } from './route.ts'
import { whileConnected } from './while-connected.ts'

/** Generators of clients know no type of lines of JSON. */
const LINES_TYPE = 'text/plain'
const IDS_MAX = 1_000
const WAIT_S = 30
const WAIT_MS_MAX = 60_000
/** Calls of one caller, and tasks of all of them. */
const CALLS_MAX = 1_000
const TASKS_MAX = 100_000
/** Tasks whose states are read at once. */
const LOOKED_AT_ONCE = 100
/** Tasks that are read in full at once: few, because each can have 2 MiB; more while the tasks of a call are small. */
const READ_AT_ONCE = 4
const SMALL_READ_AT_ONCE = 32
const SMALL_CHARS = 16 * 1024
/** Events that a call holds while its lines are not read: each can have 1 MiB. */
const EVENTS_HELD_MAX = 32

interface Body {
  ids: string[]
  wait?: number | string
}

/** POST /api/v1/tasks/wait. */
export function waitRoutes(context: ServerContext): Route[] {
  const allEnds = new WeakMap<Queue, Ends>()
  const endsOf = (queue: Queue) => {
    const ends = allEnds.get(queue) ?? new Ends(queue)
    allEnds.set(queue, ends)
    return ends
  }
  const calls = new OpenCalls(
    CALLS_MAX,
    `this caller has ${CALLS_MAX} waiting calls, the maximum: wait for more tasks in one call`,
  )
  const tasks = new OpenCalls(TASKS_MAX, `this caller waits for ${TASKS_MAX} tasks, the maximum: wait for some of them`)
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
            'no such task. The answer ends when all have a line or the wait is over',
        ),
      },
      refusals: ['invalid_duration'],
      handler: async (request, reply) => {
        const { ids, wait = WAIT_S } = request.body as Body
        const waitMs = durationMs('wait', wait)
        if (waitMs > WAIT_MS_MAX) throw invalidField('wait', 'must be at most 60 seconds')
        const { id } = request.principal!
        calls.add(id, reply.raw)
        tasks.add(id, reply.raw, ids.length)
        const queue = context.queueOfCaller()
        return sendLines(context, request, reply, (signal) => linesOf(queue, endsOf(queue), ids, waitMs, signal))
      },
    },
  ]
}

/** Sends lines as they come, until there are no more, or the caller is gone or reads nothing for long. */
function sendLines(
  context: ServerContext,
  request: FastifyRequest,
  reply: FastifyReply,
  lines: (signal: AbortSignal) => AsyncIterable<string>,
): FastifyReply {
  const { drainMs } = context.patience ?? PATIENCE
  const out = new PassThrough()
  const sent = whileConnected(request, reply.raw, context, async (signal) => {
    for await (const line of lines(signal)) {
      if (!out.write(line))
        await once(out, 'drain', { signal: AbortSignal.any([signal, AbortSignal.timeout(drainMs)]) })
    }
  })
  sent.then(
    () => out.end(),
    (error) => out.destroy(error),
  )
  // Proxies would collect the lines.
  return reply.header('X-Accel-Buffering', 'no').type(`${LINES_TYPE}; charset=utf-8`).send(out)
}

/** The lines of tasks as they end, until all have one, `waitMs` is over, or `signal` aborts. */
async function* linesOf(
  queue: Queue,
  ends: Ends,
  ids: readonly string[],
  waitMs: number,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const over = AbortSignal.any([signal, AbortSignal.timeout(waitMs)])
  const isOver = over.aborted ? null : once(over, 'abort')
  /** The tasks without a line, as they were at first. */
  const open = new Map<string, Task | null>(ids.map((id) => [id, null]))
  /** Those of them that may have ended, with the events that said so. */
  const ended = new Map<string, TaskEvent | null>()
  let news = Promise.withResolvers<void>()
  let atOnce = READ_AT_ONCE
  const leave = await ends.watch([...open.keys()], (id, event) => {
    if (open.has(id)) ended.set(id, (ended.size < EVENTS_HELD_MAX ? event : null) ?? ended.get(id) ?? null)
    news.resolve()
  })
  try {
    for await (const [id, task] of statesOf(queue, [...open.keys()])) {
      open.set(id, task)
      if ((task === null || isFinal(task.status)) && !ended.has(id)) ended.set(id, null)
    }
    for (;;) {
      while (ended.size > 0 && !signal.aborted) {
        const lines = await linesOfEnded(queue, open, ended, atOnce)
        const chars = lines.reduce((sum, line) => sum + line.length, 0)
        atOnce = chars <= lines.length * SMALL_CHARS ? SMALL_READ_AT_ONCE : READ_AT_ONCE
        yield* lines
      }
      if (open.size === 0 || over.aborted) return
      news = Promise.withResolvers()
      await Promise.race([news.promise, isOver])
    }
  } finally {
    leave()
  }
}

async function* statesOf(queue: Queue, ids: readonly string[]): AsyncGenerator<[string, Task | null]> {
  for (let from = 0; from < ids.length; from += LOOKED_AT_ONCE) {
    const some = ids.slice(from, from + LOOKED_AT_ONCE)
    const tasks = await queue.get(some, { bare: true })
    for (const [index, id] of some.entries()) yield [id, tasks[index]!]
  }
}

/** The lines of the next tasks that have ended; both maps no longer hold them. */
async function linesOfEnded(
  queue: Queue,
  open: Map<string, Task | null>,
  ended: Map<string, TaskEvent | null>,
  count: number,
): Promise<string[]> {
  const some = ended.entries().take(count).toArray()
  for (const [id] of some) ended.delete(id)
  const tasks = await queue.get(some.map(([id]) => id))
  return some.flatMap(([id, event], index) => {
    const task = tasks[index] ?? lastSeen(open.get(id), event)
    // It runs again, or has its line.
    if ((task && !isFinal(task.status)) || !open.delete(id)) return []
    return [`${task ? taskText(task) : JSON.stringify({ id, status: null })}\n`]
  })
}

/** A task that has ended and is no longer kept, without its payload. */
function lastSeen(before: Task | null | undefined, event: TaskEvent | null): Task | null {
  if (!before || !event) return null
  const { status, attempts, result, error, timeoutReason, workerId, at } = event
  return { ...before, status, attempts, result, error, timeoutReason, workerId, updatedAt: at, completedAt: at }
}
