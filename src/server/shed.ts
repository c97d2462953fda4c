import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Counter, Gauge, type Registry } from 'prom-client'
import type { RouteScope } from '../access/principal.ts'
import { XQueueError } from '../task/errors.ts'
import { Admission, type AdmissionLimits, type Overload } from './admission.ts'
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

export function isRefusable({ scope, vital = false }: Pick<Route, 'scope' | 'vital'>): boolean {
  return REFUSABLE.includes(scope) && !vital
}

/** Refuses submissions and reads while there are too many of them. */
export function shedLoad(server: FastifyInstance, limits: AdmissionLimits, registry: Registry): void {
  const admission = new Admission(limits, () => performance.now(), setImmediate)
  const count = refusalMetrics(registry, admission)
  let refused = 0
  let loggedAt = Number.NEGATIVE_INFINITY
  const log = (reason: Overload) => {
    refused += 1
    const now = performance.now()
    if (now - loggedAt < LOG_EVERY_MS) return
    server.log.warn({ refused, unanswered: admission.calls }, `calls are refused with 503: ${WHY[reason]}`)
    loggedAt = now
    refused = 0
  }
  server.decorateRequest('enteredAt', NOT_ENTERED)
  server.addHook('onRequest', (request, _reply, done) => {
    if (!request.routeOptions.config.refusable) return done()
    const entered = admission.enter(bytesOf(request))
    if (typeof entered === 'number') {
      request.enteredAt = entered
      return done()
    }
    count(entered)
    log(entered)
    done(REFUSED[entered])
  })
  // Also runs for errors, and for clients that have disconnected meanwhile.
  server.addHook('onSend', (request, _reply, _payload, done) => {
    if (request.enteredAt !== NOT_ENTERED) {
      admission.answered(request.enteredAt, bytesOf(request))
      request.enteredAt = NOT_ENTERED
    }
    done()
  })
}

function bytesOf({ headers }: FastifyRequest): number {
  return Number(headers['content-length'] ?? 0)
}

/** Made once, because each has a stack. */
function overloaded(reason: Overload): XQueueError {
  return new XQueueError('overloaded', `${WHY[reason]}: repeat the call after the time in Retry-After`, {
    retry_after: 1,
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
