import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import type { Server as TlsServer } from 'node:tls'
import type { Logger } from 'pino'
import type { Queue } from '../queue/queue.ts'
import type { Bounds } from '../task/bounds.ts'
import type { LimitState } from '../task/limit-watch.ts'

/** Status over MQTT as the rest of a process sees it. */
export interface Live {
  /** Begins to publish; the embedded broker also answers WebSockets of `server` at `/mqtt`. Never fails the start. */
  start(server: Server | null): Promise<void>
  /** For /health. A broker that is down makes it degraded, not unhealthy: tasks go on, and events wait. */
  check(): { name: string; ok: boolean; detail: string }
  /** Path of the embedded broker on the HTTP server; null for another broker. */
  readonly webSocketPath: string | null
  /** Where subscribers find it; null: at `/mqtt` of this server. */
  readonly subscribeAt: { url: string | null; prefix: string }
  stop(): Promise<void>
}

/** The rights of an authenticated client. */
export interface Authorization {
  /** The owner of its budget: a key with its sessions, or one token. */
  principal: string
  kind: 'key' | 'token'
  maySubscribe(filter: string): boolean
  /** The visible part of the queue; null: all of it. */
  readonly bounds: Bounds | null
  /** Whether results and errors are visible. */
  readonly isFull: boolean
  /** Calls `end` when that right has ended; returns what says that they have left. */
  lapses(end: () => void): () => void
}

/** Who may listen: by the password, or by what came with the request that opened the WebSocket. */
export type Authorize = (login: {
  password: string | null
  request: IncomingMessage | undefined
  address: string | null
}) => Promise<Authorization>

/** Counts connections until their clients have shown who they are. */
export interface Newcomers {
  add(socket: Socket, hasTls: boolean): void
  secured(socket: Socket): void
  admit(socket: Socket): void
  closeUnused(): void
}

export interface LiveOptions {
  queue: Queue
  logger: Logger
  /** `embedded`, or a broker's URL with user and password in it. */
  mqtt: string
  prefix: string
  qos: 0 | 1 | 2
  /** External broker: the version that it is spoken to in; default `auto`, 5 and then 3.1.1. */
  version?: 'auto' | '5' | '3.1.1'
  /** External broker: whether the state of each task is retained. */
  retain: boolean
  /** External broker; null: one that is made of `instanceId`. */
  clientId: string | null
  /** Embedded broker: where it listens for plain MQTT. */
  host: string
  port: number
  /** Connections that the system accepts while this process is busy; default that of Node. */
  backlog?: number
  /** Embedded broker: the certificate of its port, which `follow` renews; null: no TLS. */
  tls?: { readonly pair: { cert: Buffer; key: Buffer }; follow(server: TlsServer): void } | null
  newcomers?: Newcomers
  /** Embedded broker: null disables access control. */
  admit?: Authorize | null
  /** URL for subscribers, if it differs from the one of this process. */
  publicUrl?: string | null
  /** Embedded broker: whether what a WebSocket's Host header names is this server; default anything. */
  servesHost?: (host: string | undefined) => boolean
  /** Embedded broker: origins whose pages may open a WebSocket, beside the server's own and loopback ones. */
  origins: readonly string[]
  /** Unlike any other process's. */
  instanceId: string
  /** The worker of this process, whose status is published. */
  workerId: string | null
  /** How long the broker may keep a finished task's state: as long as the store keeps the task. */
  retentionMs: number
  /** What `<prefix>/stats` carries. */
  stats: () => Promise<object>
  /** The settings of all limits, which `<prefix>/limits/<name>` carries. */
  limits: () => Promise<readonly LimitState[]>
  /** The same as `stats` for a tenant. */
  statsOf?: (bounds: Bounds) => Promise<object>
}
