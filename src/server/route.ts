import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Logger } from 'pino'
import type { Registry } from 'prom-client'
import type { TSchema } from 'typebox'
import type { Access } from '../access/access.ts'
import type { AuditLog } from '../access/audit.ts'
import type { Certificate } from '../access/certificate.ts'
import type { IdentityProvider } from '../access/identity-provider.ts'
import type { Newcomers } from '../access/newcomers.ts'
import type { RouteScope } from '../access/principal.ts'
import type { Engine } from '../engine/engine.ts'
import type { ErrorCode } from '../task/errors.ts'
import type { KnownType } from '../task/task-input.ts'
import type { RegisteredHandler } from '../worker/handlers.ts'
import type { Patience } from './connections.ts'

export interface ServerOptions {
  engine: Engine
  /** Those that this process has loaded; of other types it knows what their workers have told the engine. */
  handlers: ReadonlyMap<string, RegisteredHandler>
  logger: Logger
  version: string
  instanceId: string
  registry: Registry
  startedAt?: number
  /** Status over MQTT, if this process publishes it. */
  live?: LiveStatus | null
  /** Who may do what; null: everybody everything. */
  access?: Access | null
  /** Logs people in to the dashboard; `redirectUrl` is where it sends them back, null: to the host that was asked. */
  identity?: { provider: IdentityProvider; redirectUrl: string | null } | null
  /** Where changes and refusals are written; default nowhere. */
  audit?: AuditLog | null
  /** Whether what a Host header names is this server; default anything. */
  servesHost?: (host: string | undefined) => boolean
  /** Path below which a proxy serves this server, as in `/queue`; default none. It may be stripped or sent along. */
  basePath?: string
  /** Other sites whose pages may call the API. */
  corsOrigins?: readonly string[]
  /** Proxies whose word for the client's address is believed. */
  trustedProxies?: readonly string[]
  /** With it, the server speaks TLS. */
  tls?: Certificate | null
  patience?: Patience
  /** Shared with other ports of the process; default its own. */
  newcomers?: Newcomers
}

/** What the routes tell of it: whether it works, and where the page finds it. */
export interface LiveStatus {
  check(): { name: string; ok: boolean; detail: string }
  readonly browser: { path: string; prefix: string } | null
  /** Where subscribers find it: null, at this server. */
  readonly subscribeAt: { url: string | null; prefix: string }
}

export type CountSubmissions = (outcome: 'accepted' | 'existing' | 'refused', count: number) => void

/** What the routes are given. */
export interface ServerContext extends ServerOptions {
  access: Access | null
  hasTls: boolean
  basePath: string
  startedAt: number
  /** As the caller of the present request may use them. */
  countSubmissions: CountSubmissions
  types: { of(type: string): Promise<KnownType | null>; forget(type: string): void }
  limits: { taskBytesMax: number; batchBytesMax: number }
  /** Fires when the server closes: streams and waiting calls end. */
  closing: AbortSignal
}

/** One call: its documentation is generated from the same schemas that validate it. */
export interface Route {
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  url: string
  /** Who may call it. */
  scope: RouteScope
  /** Changes nothing that an audit is interested in. */
  quiet?: boolean
  /** Tells of the whole server: nothing for keys with bounds. */
  whole?: boolean
  /** Half surrogate pairs in its body are repaired, not refused. */
  repairsText?: boolean
  summary: string
  params?: TSchema
  querystring?: TSchema
  body?: TSchema
  bodyLimit?: number
  /** What it answers, by status; only what is hidden needs none. */
  answers?: Readonly<Record<number, TSchema>>
  /** Its own ways to refuse, beside those that any call has. */
  refusals?: readonly ErrorCode[]
  /** Not an API call: left out of the documentation. */
  hidden?: boolean
  /** Looks at the request before its schemas do; throws what is to be answered. */
  before?: (request: FastifyRequest) => void
  handler: (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>
}
