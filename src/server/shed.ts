import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { Counter, Gauge, type Registry } from 'prom-client'
import type { RouteScope } from '../access/principal.ts'
import { XQueueError } from '../task/errors.ts'
import { Admission, type AdmissionLimits, type Overload } from './admission.ts'
import { useOriginForm } from './connections.ts'
import { OF_API } from './headers.ts'
import { linger } from './lingering.ts'
import type { CountAnswer } from './metrics.ts'
import { problemOf } from './problems.ts'
import type { Route } from './route.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The time from which this call counts as one without an answer; negative: it does not. */
    enteredAt: number
  }
  interface FastifyContextConfig {
    /** Refused while the load is too high. */
    refusable?: boolean
  }
}

/**
 * Calls of other scopes are never refused because of the load: workers reduce it, operators stop its cause, and health
 * checks must tell a loaded server from a dead one.
 */
const REFUSABLE: readonly RouteScope[] = ['submit', 'read']
const NOT_ENTERED = -1
const LOG_EVERY_MS = 10_000
const RETRY_AFTER_S = 1
const WHY: Readonly<Record<Overload, string>> = {
  calls: 'the server has more calls than it can answer in time',
  bytes: 'the bodies of the unanswered calls have too many bytes together',
  delay: 'the server has received more calls at once than it can answer in time',
}
const REFUSED: Readonly<Record<Overload, XQueueError>> = {
  calls: overloaded('calls'),
  bytes: overloaded('bytes'),
  delay: overloaded('delay'),
}

/** An answer that is the same for each call. */
interface Problem {
  status: number
  headers: Readonly<Record<string, string | number>>
  body: string
}

const PROBLEMS: Readonly<Record<Overload, Problem>> = {
  calls: problem('calls'),
  bytes: problem('bytes'),
  delay: problem('delay'),
}

function problem(reason: Overload): Problem {
  const error = REFUSED[reason]
  const body = JSON.stringify(problemOf(error))
  const type = { 'content-type': 'application/problem+json; charset=utf-8', 'content-length': Buffer.byteLength(body) }
  return { status: error.status, headers: { ...OF_API, ...type, 'retry-after': RETRY_AFTER_S }, body }
}

export function isRefusable({ scope, vital = false }: Pick<Route, 'scope' | 'vital'>): boolean {
  return REFUSABLE.includes(scope) && !vital
}

/** Refuses submissions and reads while there are too many of them. */
export function shedLoad(
  server: FastifyInstance,
  { limits, registry, countAnswer }: { limits: AdmissionLimits; registry: Registry; countAnswer: CountAnswer },
): void {
  const admission = new Admission(limits, () => performance.now(), setImmediate)
  const count = refusalMetrics(registry, admission)
  let refused = 0
  let loggedAt = Number.NEGATIVE_INFINITY
  const note = (reason: Overload) => {
    count(reason)
    refused += 1
    const now = performance.now()
    if (now - loggedAt < LOG_EVERY_MS) return
    server.log.warn({ refused, unanswered: admission.calls }, `calls are refused with 503: ${WHY[reason]}`)
    loggedAt = now
    refused = 0
  }
  // Connections on which a call has passed authentication.
  const known = new WeakSet<Socket>()
  server.decorateRequest('enteredAt', NOT_ENTERED)
  server.addHook('onRequest', (request, _reply, done) => {
    known.add(request.raw.socket)
    if (!request.routeOptions.config.refusable) return done()
    const entered = admission.enter(bytesOf(request.raw))
    if (typeof entered === 'number') {
      request.enteredAt = entered
      return done()
    }
    note(entered)
    done(REFUSED[entered])
  })
  // Also runs for errors, and for clients that have disconnected meanwhile.
  server.addHook('onSend', (request, _reply, _payload, done) => {
    if (request.enteredAt !== NOT_ENTERED) {
      admission.answered(request.enteredAt, bytesOf(request.raw))
      request.enteredAt = NOT_ENTERED
    }
    done()
  })
  refuseBeforehand(server, (request, route) => {
    if (!known.has(request.socket)) return null
    const reason = admission.refusal(bytesOf(request))
    if (reason === null) return null
    note(reason)
    countAnswer(request.method!, route, PROBLEMS[reason].status)
    return PROBLEMS[reason]
  })
}

/**
 * Answers refused calls before the framework handles them, because that would cost as much as accepting them. Calls of
 * pages of other sites are left to the framework, which knows what these may read.
 */
function refuseBeforehand(
  server: FastifyInstance,
  refusal: (request: IncomingMessage, route: string) => Problem | null,
): void {
  // Routes without parameters: an overload consists of submissions and lists.
  const routes = new Map<string, string>()
  server.addHook('onRoute', ({ method, url, config }) => {
    if (config?.refusable && !url.includes(':')) routes.set(`${method} ${url}`, url)
  })
  const { server: http } = server
  const [handle] = http.listeners('request') as [RequestListener]
  http.removeListener('request', handle)
  http.on('request', (request: IncomingMessage, response: ServerResponse) => {
    useOriginForm(request)
    const route = routes.get(`${request.method} ${request.url!.split('?', 1)[0]}`)
    const isOwn = route !== undefined && request.headers.origin === undefined && http.listening
    const problem = isOwn ? refusal(request, route) : null
    if (!problem) return handle(request, response)
    linger(request, response)
    response.writeHead(problem.status, problem.headers).end(problem.body)
  })
}

function bytesOf({ headers }: IncomingMessage): number {
  return Number(headers['content-length'] ?? 0)
}

/** Made once, because each has a stack. */
function overloaded(reason: Overload): XQueueError {
  return new XQueueError('overloaded', `${WHY[reason]}: repeat the call after the time in Retry-After`, {
    retry_after: RETRY_AFTER_S,
  })
}

function refusalMetrics(registry: Registry, admission: Admission): (reason: Overload) => void {
  const refusals = new Counter({
    name: 'xqueue_http_shed_total',
    help: 'Calls that this process refused because of its load (503), by reason: calls, bytes, delay',
    labelNames: ['reason'],
    registers: [registry],
  })
  for (const reason of Object.keys(WHY)) refusals.inc({ reason }, 0)
  new Gauge({
    name: 'xqueue_http_unanswered',
    help: 'Submissions and reads over HTTP that wait for their answer in this process',
    registers: [registry],
    collect() {
      this.set(admission.calls)
    },
  })
  return (reason) => refusals.inc({ reason })
}
