import { once } from 'node:events'
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { Interests } from '../access/principal.ts'
import { XQueueError } from '../task/errors.ts'
import { eventJson, type TaskEvent } from '../task/event.ts'
import { ANSWERS } from './answers.ts'
import { PATIENCE } from './connections.ts'
import type { Route, ServerContext } from './route.ts'
import { StatusSchema } from './schemas.ts'

const PAGE = 1_000
const WAIT_MS = 10_000
const GAP = '{"detail":"earlier events are gone: read the tasks"}'
/** A subscriber that does not read is cut off at this much; it resumes with Last-Event-ID. */
const UNSENT_BYTES_MAX = 8 * 1024 * 1024

/** Streams of one caller. */
const STREAMS_MAX = 100
/** One that takes less than a piece in this time is cut off. */
const DRAIN_MS = 30_000
const PIECE_CHARS = 256 * 1024

/** GET /api/v1/events: each connection reads the outbox at its own place, so a slow one holds up nobody. */
export function eventRoutes({ engine, access, closing, patience = PATIENCE }: ServerContext): Route[] {
  const { heartbeatMs } = patience
  /** Open streams by their callers. */
  const streams = new Map<string, number>()
  const stream = async (request: FastifyRequest, reply: FastifyReply) => {
    const { task_id, type, status } = request.query as { task_id?: string; type?: string; status?: string }
    const principal = request.principal!
    // A stream has no end, so neither would an answer without a body have one.
    if (request.method === 'HEAD') return reply.type('text/event-stream').send()
    const wanted = (event: TaskEvent) =>
      event.kind !== 'removed' &&
      isOf(principal.interests, event) &&
      (task_id === undefined || event.taskId === task_id) &&
      (type === undefined || event.type === type) &&
      (status === undefined || event.status === status)
    const resumeAt = request.headers['last-event-id']
    // The place is fixed before the answer starts: what happens after the headers arrive is never missed.
    let after = typeof resumeAt === 'string' ? resumeAt : (await engine.events({ after: null, max: 1 })).last

    const open = (streams.get(principal.id) ?? 0) + 1
    if (open > STREAMS_MAX) throw tooManyStreams()
    streams.set(principal.id, open)
    const out = reply.raw
    out.once('close', () => {
      const left = streams.get(principal.id)! - 1
      if (left > 0) streams.set(principal.id, left)
      else streams.delete(principal.id)
    })
    const gone = new AbortController()
    const leave = () => gone.abort()
    out.once('close', leave)
    closing.addEventListener('abort', leave, { once: true })
    if (out.destroyed || closing.aborted) leave()
    const left = access?.lapses(principal, leave)
    reply.hijack()
    out.writeHead(200, {
      ...(reply.getHeaders() as OutgoingHttpHeaders),
      'Content-Type': 'text/event-stream',
      Connection: 'close', // Kept alive after its end, it would hold up the close of the server
      'X-Accel-Buffering': 'no',
      'Last-Event-ID': after,
    })
    // No block of its own: readers take fields without data for an event. A reconnect before the first event is told
    // the place by the header.
    out.write('retry: 1000\n')
    const heartbeat = setInterval(() => out.write(':\n'), heartbeatMs)
    try {
      while (!gone.signal.aborted && out.writableLength < UNSENT_BYTES_MAX) {
        const page = await engine.events({ after, max: PAGE, waitMs: WAIT_MS, signal: gone.signal })
        after = page.last
        if (page.gap) out.write(`event: gap\nid: ${after}\ndata: ${GAP}\n\n`)
        const text = page.events
          .filter(wanted)
          .map((event) => `event: ${event.kind}\nid: ${event.id}\ndata: ${eventJson(event)}\n\n`)
        // What was read is taken before more is: else each stream would hold several pages.
        for (const piece of piecesOf(text)) if (!out.write(piece)) await drained(out, gone.signal)
      }
    } catch (error) {
      request.log.warn({ err: error }, 'an event stream ended: the engine failed')
    } finally {
      clearInterval(heartbeat)
      closing.removeEventListener('abort', leave)
      left?.()
      out.end()
    }
  }
  return [
    {
      method: 'GET',
      url: '/api/v1/events',
      scope: 'listen',
      summary: 'Status changes as Server-Sent Events; Last-Event-ID resumes',
      querystring: Type.Object(
        {
          task_id: Type.Optional(Type.String({ maxLength: 100 })),
          type: Type.Optional(Type.String({ maxLength: 100 })),
          status: Type.Optional(StatusSchema),
          access_token: Type.Optional(
            Type.String({
              maxLength: 16_384,
              description: 'A subscription token, for EventSource, which has no headers',
            }),
          ),
        },
        { additionalProperties: false },
      ),
      answers: ANSWERS.events,
      handler: stream,
    },
  ]
}

function* piecesOf(texts: readonly string[]): Generator<string> {
  let piece = ''
  for (const text of texts) {
    piece += text
    if (piece.length < PIECE_CHARS) continue
    yield piece
    piece = ''
  }
  if (piece !== '') yield piece
}

/** Resolves when a subscriber has taken what was written; one that takes nothing for long is cut off, and resumes. */
async function drained(out: ServerResponse, gone: AbortSignal): Promise<void> {
  await once(out, 'drain', { signal: AbortSignal.any([gone, AbortSignal.timeout(DRAIN_MS)]) }).catch(() => {
    if (!gone.aborted) out.destroy()
  })
}

function tooManyStreams(): XQueueError {
  const detail = `there are ${STREAMS_MAX} event streams of this caller already: close one, or use MQTT`
  return new XQueueError('too_many_calls', detail, { retry_after: 1 })
}

/** Whether a subscription token was made for this; whoever needed none may hear everything. */
function isOf(interests: Interests | null, { taskId, type }: TaskEvent): boolean {
  if (interests === null) return true
  return 'taskIds' in interests ? interests.taskIds.includes(taskId) : interests.types.includes(type)
}
