import type { Server } from 'node:http'
import type { Logger } from 'pino'
import type { Engine } from '../engine/engine.ts'
import { EmbeddedBroker } from './broker.ts'
import { Notifier } from './notifier.ts'

/** Status over MQTT as the rest of a process sees it. */
export interface Live {
  /** Begins to publish; the embedded broker also answers WebSockets of `server` at `/mqtt`. Never fails the start. */
  start(server: Server | null): Promise<void>
  /** For /health. A broker that is down makes it degraded, not unhealthy: tasks go on, and events wait. */
  check(): { name: string; ok: boolean; detail: string }
  /** Where a browser of this server's page finds it; null where it must take Server-Sent Events. */
  readonly browser: { path: string; prefix: string } | null
  stop(): Promise<void>
}

export interface LiveOptions {
  engine: Engine
  logger: Logger
  /** `embedded`, or a broker's URL with user and password in it. */
  mqtt: string
  prefix: string
  qos: 0 | 1 | 2
  /** External broker: whether the state of each task is retained. */
  retain: boolean
  /** External broker; null: one that is made of `instanceId`. */
  clientId: string | null
  /** Embedded broker: where it listens for plain MQTT. */
  host: string
  port: number
  /** Embedded broker: origins whose pages may open a WebSocket, beside the server's own and loopback ones. */
  origins: readonly string[]
  /** Unlike any other process's. */
  instanceId: string
  /** The worker of this process, whose coming and going is told. */
  workerId: string | null
  /** How long the broker may keep a finished task's state: as long as the engine keeps the task. */
  retentionMs: number
  /** What `<prefix>/stats` carries. */
  stats: () => Promise<object>
}

export function createLive(options: LiveOptions): Live {
  return options.mqtt === 'embedded' ? new EmbeddedBroker(options) : new Notifier(options)
}
