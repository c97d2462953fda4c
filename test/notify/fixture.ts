import { type EventEmitter, once } from 'node:events'
import mqtt, { type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt'
import { pino } from 'pino'
import { expect, vi } from 'vitest'
import { z } from 'zod'
import { type App, startApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config/config.ts'
import { normalizeHandlers } from '../../src/worker/handlers.ts'

export const MANY_MS = 30_000

const greeting = z.object({ name: z.string(), times: z.number().int().default(1) })

const handlers = normalizeHandlers({
  form: { payload: greeting, run: ({ payload }) => ({ greeting: `${payload.name} ${payload.times}` }) },
  quick: { run: (task) => task.payload },
  'longer:than-a-phone-is-wide.and_then-some-more-of-it': { run: () => null },
  steps: {
    run: (_task, { progress }) => {
      progress(50)
      return null
    },
  },
  fails: { maxRetry: 0, run: () => Promise.reject(new Error('<img src=x onerror=alert(1)> #+/ 不行')) },
  slow: {
    concurrency: 2,
    run: (_task, { signal }) => new Promise((_resolve, reject) => signal.addEventListener('abort', reject)),
  },
})

/** One whole process (server, worker, status over MQTT) inside the test. */
export class Process {
  readonly log: string[] = []
  readonly #app: App

  static async start(flags: Record<string, string>): Promise<Process> {
    const log: string[] = []
    const defaults = { engine: 'sqlite::memory:', port: '0', 'mqtt-port': '0' }
    const { config } = await loadConfig({ ...defaults, ...flags }, {}, import.meta.dirname)
    const logger = pino({ level: 'debug' }, { write: (line) => log.push(line) })
    return new Process(await startApp(config, { server: true, worker: true }, logger, handlers), log)
  }

  private constructor(app: App, log: string[]) {
    this.#app = app
    this.log = log
  }

  get address(): string {
    return this.#app.address!
  }

  get webSocket(): string {
    return `${this.address.replace('http', 'ws')}/mqtt`
  }

  // biome-ignore lint/suspicious/noExplicitAny: answers of every call, compared field by field
  async call(method: string, path: string, body?: object): Promise<{ status: number; body: any }> {
    const json = body ? { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } } : {}
    const answer = await fetch(`${this.address}/api/v1${path}`, { method, ...json })
    return { status: answer.status, body: await answer.json() }
  }

  async submit(type: string, payload: unknown = {}): Promise<string> {
    const answer = await this.call('POST', '/tasks', { type, payload })
    expect(answer).toMatchObject({ status: 201 })
    return answer.body.id
  }

  async mqttCheck(): Promise<{ status: number; overall: string; ok: boolean; detail: string }> {
    const { status, body } = await this.call('GET', '/health')
    const { ok, detail } = body.checks.find(({ name }: { name: string }) => name === 'mqtt')
    return { status, overall: body.status, ok, detail }
  }

  /** Of the embedded broker's TCP listener, or of the other broker. */
  async mqttUrl(): Promise<string> {
    return /mqtt:\/\/[\d.:]+/.exec((await this.mqttCheck()).detail)![0]
  }

  stop(): Promise<void> {
    return this.#app.stop()
  }
}

export interface Message {
  topic: string
  // biome-ignore lint/suspicious/noExplicitAny: a message's JSON, compared field by field
  body: any
  packet: IPublishPacket
}

/** A client that somebody else might have written: MQTT.js, everything that it hears kept in order. */
export class Listener {
  readonly messages: Message[] = []
  readonly client: MqttClient

  static async connect(url: string, filters: string[], options: IClientOptions = {}): Promise<Listener> {
    const client = mqtt.connect(url, { reconnectPeriod: 50, protocolVersion: 4, ...options })
    const listener = new Listener(client)
    await event(client, 'connect')
    if (filters.length > 0) await client.subscribeAsync(filters, { qos: 1 })
    return listener
  }

  private constructor(client: MqttClient) {
    this.client = client
    client.on('error', () => undefined) // It connects again; what the test waits for says whether it did.
    client.on('message', (topic, payload, packet) => {
      const text = payload.toString()
      this.messages.push({ topic, body: text.startsWith('{') ? JSON.parse(text) : text, packet })
    })
  }

  on(topic: string): Message[] {
    return this.messages.filter((message) => message.topic === topic)
  }

  statuses(topic: string): string[] {
    return this.on(topic).map(({ body }) => body.status)
  }

  until(check: (listener: this) => void): Promise<void> {
    return vi.waitFor(() => check(this), { timeout: MANY_MS, interval: 10 })
  }

  async close(): Promise<void> {
    await this.client.endAsync(true)
  }
}

/** The next event of an MQTT.js client, whose own types `once` does not know. */
export function event(client: MqttClient, name: 'connect' | 'close'): Promise<unknown> {
  return once(client as unknown as EventEmitter, name)
}

/** Status over MQTT alone, to be put on an engine of the test's. */
export function liveOptions(mqtt: string) {
  return {
    logger: pino({ level: 'silent' }),
    mqtt,
    prefix: 'xqueue',
    qos: 1 as const,
    retain: true,
    clientId: null,
    host: '127.0.0.1',
    port: 0,
    origins: [],
    instanceId: 'test-instance',
    workerId: null,
    retentionMs: 60_000,
    stats: async () => ({ any: 1 }),
  }
}
