import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Logger } from 'pino'
import type { Registry } from 'prom-client'
import type { Access } from '../access/access.ts'
import type { AuditLog } from '../access/audit.ts'
import type { Certificate } from '../access/certificate.ts'
import type { IdentityProvider } from '../access/identity-provider.ts'
import type { Newcomers } from '../access/newcomers.ts'
import type { RouteScope } from '../access/principal.ts'
import type { Health, Queue } from '../queue/queue.ts'
import type { ErrorCode } from '../task/errors.ts'
import type { JsonSchema } from '../task/json-schema.ts'
import type { KnownType } from '../task/task-input.ts'
import type { RegisteredHandler } from '../worker/handlers.ts'
import type { AdmissionLimits } from './admission.ts'
import type { Patience } from './connections.ts'

export interface ServerOptions {
  queue: Queue
  /** The handlers of this process; other types are known from their workers' reports. */
  handlers: ReadonlyMap<string, RegisteredHandler>
  logger: Logger
  version: string
  instanceId: string
  registry: Registry
  /** Status over MQTT, if this process publishes it. */
  live?: LiveStatus | null
  /** Search for types whose tasks do not start; default none. */
  stalls?: StallStatus | null
  /** Access control; null: every caller has full access. */
  access?: Access | null
  /** Login to the dashboard; `redirectUrl` null: the requested host. */
  identity?: { provider: IdentityProvider; redirectUrl: string | null } | null
  /** Audit log of changes and refusals; default none. */
  audit?: AuditLog | null
  /** Whether a Host header names this server; default always. */
  servesHost?: (host: string | undefined) => boolean
  /** Path below which a proxy serves this server, such as `/queue`; default none. The proxy may strip it. */
  basePath?: string
  /** Other sites whose pages may call the API. */
  corsOrigins?: readonly string[]
  /** Proxies whose `X-Forwarded-For` is trusted. */
  trustedProxies?: readonly string[]
  /** Enables TLS. */
  tls?: Certificate | null
  patience?: Patience
  /** Load above which submissions and reads are refused. */
  admission?: AdmissionLimits
  /** Shared with other ports of the process; default a separate one. */
  newcomers?: Newcomers
}

/** Status over MQTT for routes. */
export interface LiveStatus {
  check(): { name: string; ok: boolean; detail: string }
  /** Path of the embedded broker on this server; null for another broker. */
  readonly webSocketPath: string | null
  /** URL for subscribers; null: this server. */
  readonly subscribeAt: { url: string | null; prefix: string }
}

/** Types whose ready tasks do not start, for routes. */
export interface StallStatus {
  check(): Health['checks'][number]
  isStalled(type: string): boolean
}

export type CountSubmissions = (outcome: 'accepted' | 'existing' | 'refused', count: number) => void

/** The context of routes. */
export interface ServerContext extends ServerOptions {
  access: Access | null
  hasTls: boolean
  basePath: string
  /** On the clock of `performance.now()`. */
  startedAt: number
  /** The queue of the current caller, which can also be used outside of its call. */
  queueOfCaller(): Queue
  /** The types as the current caller can use them. */
  countSubmissions: CountSubmissions
  types: { of(type: string): Promise<KnownType | null>; forget(type: string): void }
  limits: { taskBytesMax: number; batchBytesMax: number }
  /** Aborts when the server closes, to end streams and waiting calls. */
  closing: AbortSignal
}

/** A route. Its documentation is generated from the schemas that validate it. */
export interface Route {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  url: string
  /** Required scope. */
  scope: RouteScope
  /** Not relevant for the audit log. */
  quiet?: boolean
  /** Concerns the whole server: refused to keys with bounds. */
  whole?: boolean
  /** Answered also while the server refuses other calls because of its load. */
  vital?: boolean
  /** Repairs unpaired surrogates in the body instead of refusing them. */
  repairsText?: boolean
  /** Marks numbers that would change (`changedNumberIn`) instead of refusing the body. */
  marksNumbers?: boolean
  summary: string
  params?: JsonSchema
  querystring?: JsonSchema
  body?: JsonSchema
  bodyLimit?: number
  /** Answers by status; required unless hidden. */
  answers?: Readonly<Record<number, JsonSchema>>
  /** Refusals beside those of any call. */
  refusals?: readonly ErrorCode[]
  /** Not an API call: omitted from the documentation. */
  hidden?: boolean
  /** Checks the request before its schemas; throws the error to answer. */
  before?: (request: FastifyRequest) => void
  handler: (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>
}
