import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from '../task/json-schema.ts'
import { LOG_LEVELS, type LogLine } from '../task/log-line.ts'
import { isFinal } from '../task/status.ts'
import { streamQuota } from './caller-quota.ts'
import { writeHead } from './events.ts'
import { count, described, nullable, orNull, time, titled } from './fields.ts'
import type { Route, ServerContext } from './route.ts'
import { IdParams } from './schemas.ts'
import { noTask } from './tasks.ts'
import { whileConnected } from './while-connected.ts'

const PAGE_MAX = 1_000
/** A stream looks for new lines this often; workers send theirs once a second. */
const LOOK_MS = 500
const UNSENT_BYTES_MAX = 8 * 1024 * 1024

const Line = Type.Object(
  {
    n: count('Number of the line in the task, from 1'),
    delivery: count('The hand-out to a worker, as of the attempt'),
    attempt: count('Number of the attempt'),
    time: time('Time at which the handler wrote it'),
    level: { enum: LOG_LEVELS },
    message: orNull('string', { description: 'Null for keys that may not see contents' }),
    fields: nullable({ type: 'object' }, 'Further fields of the line'),
  },
  { title: 'LogLine' },
)

const Log = titled(
  'Log',
  Type.Object({
    lines: Type.Array(Line, { description: 'Oldest first' }),
    last: count('Number of the last line: continue with `after`'),
    left_out: count('Number of lines that are no longer kept'),
    done: Type.Boolean({ description: 'The task has ended, and no line follows' }),
  }),
)

interface Query {
  after?: number
  limit?: number
}
type Request = FastifyRequest<{ Params: { id: string }; Querystring: Query }>

/** /api/v1/tasks/:id/logs: the lines that the handler of a task wrote. */
export function logRoutes(context: ServerContext): Route[] {
  const open = streamQuota()
  return [
    {
      method: 'GET',
      url: '/api/v1/tasks/:id/logs',
      scope: 'read',
      vital: true, // It may follow the lines for hours.
      summary: 'List the log lines of a task; with Accept: text/event-stream they follow as Server-Sent Events',
      params: IdParams,
      querystring: Type.Object(
        {
          after: Type.Optional(
            Type.Integer({
              minimum: 0,
              maximum: 999_999_999_999_999,
              description: 'Only lines after this number; default 0',
            }),
          ),
          limit: Type.Optional(Type.Integer({ minimum: 1, maximum: PAGE_MAX, default: PAGE_MAX })),
        },
        { additionalProperties: false },
      ),
      answers: { 200: described(Log, 'The lines') },
      refusals: ['not_found'],
      handler: async (request, reply) => {
        const { id } = (request as Request).params
        const { after = 0, limit = PAGE_MAX } = request.query as Query
        const isStream = (request.headers.accept ?? '').includes('text/event-stream')
        const from = isStream ? resumedAt(request, after) : after
        const first = await read(context, id, from, limit)
        if (!first) throw noTask(id)
        if (!isStream || request.method === 'HEAD') return first
        open.add(request.principal!.id, reply.raw)
        return await follow(context, request as Request, reply, first, from)
      },
    },
  ]
}

interface LogJson {
  lines: LogLine[]
  last: number
  left_out: number
  done: boolean
}

async function read({ queue }: ServerContext, id: string, after: number, max: number): Promise<LogJson | null> {
  const found = await queue.logs(id, after, max)
  if (!found) return null
  const { task, lines, leftOut } = found
  const last = lines.at(-1)?.n ?? after
  return { lines, last, left_out: leftOut, done: isFinal(task.status) && lines.length < max }
}

function resumedAt({ headers }: FastifyRequest, after: number): number {
  const last = headers['last-event-id']
  return typeof last === 'string' && /^\d{1,15}$/.test(last) ? Math.max(Number(last), after) : after
}

/** Sends lines until the task has ended, the client disconnects, its access ends, or the server closes. */
async function follow(context: ServerContext, request: Request, reply: FastifyReply, first: LogJson, from: number) {
  const { id } = request.params
  const out = reply.raw
  await whileConnected(request, out, context, async (signal) => {
    writeHead(reply, String(from))
    try {
      for (let page: LogJson | null = first; page && !signal.aborted && out.writableLength < UNSENT_BYTES_MAX; ) {
        out.write(page.lines.map((line) => `event: log\nid: ${line.n}\ndata: ${JSON.stringify(line)}\n\n`).join(''))
        if (page.done) {
          out.write('event: end\ndata: {}\n\n')
          return
        }
        if (page.lines.length < PAGE_MAX) await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined)
        if (page.lines.length === 0) out.write(':\n')
        page = signal.aborted ? null : await read(context, id, page.last, PAGE_MAX)
      }
    } catch (error) {
      request.log.warn({ err: error }, 'a stream of log lines ended: the engine failed')
    } finally {
      out.end()
    }
  })
}
