import { once } from 'node:events'
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Writable } from 'node:stream'
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import { type Interests, may, notAllowed } from '../access/principal.ts'
import { eventJson, type TaskEvent } from '../task/event.ts'
import { Type } from '../task/json-schema.ts'
import { LimitWatch } from '../task/limit-watch.ts'
import { streamQuota } from './caller-quota.ts'
import { PATIENCE } from './connections.ts'
import { ofText } from './fields.ts'
import { limitStates } from './limit-targets.ts'
import type { Route, ServerContext } from './route.ts'
import { StatusSchema } from './schemas.ts'
import { readFigures } from './system.ts'
import { whileConnected } from './while-connected.ts'

const PAGE = 1_000
const WAIT_MS = 10_000
const TICK_MS = 1_000
const GAP = '{"detail":"events may be missing, because the last position is not among the kept events: read the tasks"}'
const PIECE_CHARS = 256 * 1024

/** What a client may ask for beside the events of tasks. */
interface Extras {
  stats?: boolean
  limits?: boolean
}

/** GET /api/v1/events: each connection reads the outbox at its own position, so a slow one does not delay others. */
export function eventRoutes(context: ServerContext): Route[] {
  return [streamEvents(context)]
}

function streamEvents(context: ServerContext): Route {
  const open = streamQuota()
  return {
    method: 'GET',
    url: '/api/v1/events',
    scope: 'listen',
    summary: 'Stream status changes as Server-Sent Events; Last-Event-ID resumes',
    querystring: Type.Object(
      {
        task_id: Type.Optional(Type.String({ maxLength: 100 })),
        type: Type.Optional(Type.String({ maxLength: 100 })),
        status: Type.Optional(StatusSchema),
        stats: Type.Optional(
          Type.Boolean({ description: 'true: also an event `stats` every second, as on the MQTT topic `stats`' }),
        ),
        limits: Type.Optional(
          Type.Boolean({
            description:
              'true: also an event `limit` with the settings of each limit, at first and within a second of a change',
          }),
        ),
        access_token: Type.Optional(
          Type.String({
            maxLength: 16_384,
            description: 'A subscription token, for EventSource, which cannot send headers',
          }),
        ),
      },
      { additionalProperties: false },
    ),
    answers: { 200: ofText('text/event-stream', 'An endless stream') },
    handler: async (request, reply) => {
      // A stream has no end, so a HEAD request gets the headers alone.
      if (request.method === 'HEAD') return reply.type('text/event-stream').send()
      // A subscription token shows its tasks only.
      const { stats, limits } = request.query as Extras
      if ((stats || limits) && !may(request.principal, 'read')) throw notAllowed(request.principal!, 'read')
      const resumeAt = request.headers['last-event-id']
      // The position is fixed before the answer starts: no event after the headers is missed.
      const after = typeof resumeAt === 'string' ? resumeAt : (await context.queue.events({ after: null, max: 1 })).last
      open.add(request.principal!.id, reply.raw)
      await stream(context, request, reply, after)
    },
  }
}

/** Writes events until the client disconnects, its access ends, or the server closes. */
async function stream(
  context: ServerContext,
  request: FastifyRequest,
  reply: FastifyReply,
  from: string,
): Promise<void> {
  const { queue, patience = PATIENCE } = context
  const out = reply.raw
  const wanted = filterOf(request)
  await whileConnected(request, out, context, async (signal) => {
    writeHead(reply, from)
    const heartbeat = setInterval(() => out.write(':\n'), patience.heartbeatMs)
    const ticking = sendExtras(context, request, out)
    try {
      for (let after = from; !signal.aborted; ) {
        const page = await queue.events({ after, max: PAGE, waitMs: WAIT_MS, signal })
        after = page.last
        if (page.gap) out.write(`event: gap\nid: ${after}\ndata: ${GAP}\n\n`)
        const text = page.events
          .filter(wanted)
          .map((event) => `event: ${event.kind}\nid: ${event.id}\ndata: ${eventJson(event)}\n\n`)
        // A page is sent before the next one is read, so a stream holds one page at most.
        for (const piece of piecesOf(text)) if (!out.write(piece)) await drained(out, signal, patience.drainMs)
      }
    } catch (error) {
      request.log.warn({ err: error }, 'an event stream ended: the engine failed')
    } finally {
      clearInterval(heartbeat)
      for (const timer of ticking) clearInterval(timer)
      out.end()
    }
  })
}

/** Sends what the client asks for beside the events of tasks, now and every second. */
function sendExtras(context: ServerContext, { log, query }: FastifyRequest, out: ServerResponse): NodeJS.Timeout[] {
  const { queue, instanceId, startedAt } = context
  const { stats, limits } = query as Extras
  const told = (kind: string, data: unknown) => `event: ${kind}\ndata: ${JSON.stringify(data)}\n\n`
  const watch = new LimitWatch(() => limitStates(queue))
  return [
    ...(stats ? [async () => told('stats', await readFigures(queue, instanceId, startedAt))] : []),
    ...(limits ? [async () => (await watch.look()).map((state) => told('limit', state)).join('')] : []),
  ].map((read) => repeat(read, log, out))
}

/** Sends what is read now and every second, unless the client has not read what was sent before. */
function repeat(read: () => Promise<string>, log: FastifyBaseLogger, out: ServerResponse): NodeJS.Timeout {
  let isReading = false
  const send = async () => {
    if (isReading || out.writableNeedDrain) return
    isReading = true
    try {
      const text = await read()
      if (text !== '' && !out.writableEnded) out.write(text)
    } catch (error) {
      log.debug({ err: error }, 'no figures on an event stream: the engine failed')
    } finally {
      isReading = false
    }
  }
  void send()
  return setInterval(() => void send(), TICK_MS)
}

export function writeHead(reply: FastifyReply, after: string): void {
  reply.hijack()
  reply.raw.writeHead(200, {
    ...(reply.getHeaders() as OutgoingHttpHeaders),
    'Content-Type': 'text/event-stream',
    Connection: 'close', // A connection kept alive after the stream would delay the close of the server.
    'X-Accel-Buffering': 'no',
    'Last-Event-ID': after,
  })
  // Not a block of its own: clients take fields without data for an event. The header carries the position for a
  // reconnect before the first event.
  reply.raw.write('retry: 1000\n')
}

function filterOf(request: FastifyRequest): (event: TaskEvent) => boolean {
  const { task_id, type, status } = request.query as { task_id?: string; type?: string; status?: string }
  const { interests } = request.principal!
  return (event) =>
    event.kind !== 'removed' &&
    isOf(interests, event) &&
    (task_id === undefined || event.taskId === task_id) &&
    (type === undefined || event.type === type) &&
    (status === undefined || event.status === status)
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

/**
 * Resolves when the client has read the written data. A client that reads nothing for long is disconnected: it can call
 * again, a reader of events with Last-Event-ID.
 */
export async function drained(out: Writable, gone: AbortSignal, drainMs: number): Promise<void> {
  await once(out, 'drain', { signal: AbortSignal.any([gone, AbortSignal.timeout(drainMs)]) }).catch(() => {
    if (!gone.aborted) out.destroy()
  })
}

/** Whether the event is within the interests of a subscription token; without a token, all events are. */
function isOf(interests: Interests | null, { taskId, type }: TaskEvent): boolean {
  if (interests === null) return true
  return 'taskIds' in interests ? interests.taskIds.includes(taskId) : interests.types.includes(type)
}
