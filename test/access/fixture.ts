import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { expect, vi } from 'vitest'
import { KeyRing, type NewKey } from '../../src/access/key-ring.ts'
import { type App, startApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config/config.ts'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import type { Scope } from '../../src/task/api-key.ts'
import type { Handlers } from '../../src/worker/handler.ts'
import { normalizeHandlers } from '../../src/worker/handlers.ts'

/** What the handler `show` was given. */
export const given: unknown[] = []

const handlers = normalizeHandlers({
  quick: { run: (task) => task.payload },
  show: {
    run: ({ payload }) => {
      given.push(payload)
      return payload
    },
  },
})

// biome-ignore lint/suspicious/noExplicitAny: answers of every call, compared field by field
type Body = any

export interface Answer {
  status: number
  headers: Headers
  body: Body
}

/** A whole process (server, worker, embedded broker) with access control, on a store that the test opens as well. */
export class Guarded {
  readonly log: string[]
  readonly isGuardedByKeys: boolean
  readonly url: string
  readonly queue: Queue
  readonly ring: KeyRing
  readonly #app: App
  readonly #folder: string

  /** @param more handlers beside `quick` and `show` */
  static async start(flags: Record<string, string> = {}, more: Handlers = {}): Promise<Guarded> {
    const folder = mkdtempSync(join(tmpdir(), 'xqueue-access-'))
    const queue = `sqlite:${join(folder, 'x.db')}`
    const log: string[] = []
    const defaults = { engine: queue, port: '0', 'mqtt-port': '0', auth: 'keys' }
    const { config } = await loadConfig({ ...defaults, ...flags }, {}, folder)
    const logger = pino({ level: 'trace' }, { write: (line) => log.push(line) })
    const all = new Map([...handlers, ...normalizeHandlers(more)])
    const app = await startApp(config, { server: true, worker: true }, logger, all)
    return new Guarded(app, await openQueue(config.engine), folder, log, config.auth.includes('keys'))
  }

  private constructor(app: App, queue: Queue, folder: string, log: string[], isGuardedByKeys: boolean) {
    this.#app = app
    this.#folder = folder
    this.url = app.address!
    this.queue = queue
    this.ring = new KeyRing(queue)
    this.log = log
    this.isGuardedByKeys = isGuardedByKeys
  }

  /** A key's token. */
  async key(scopes: Scope[], more: Partial<NewKey> = {}): Promise<string> {
    return (await this.newKey(scopes, more)).token
  }

  /** The server hears of it as it would of one that another process has made. */
  async newKey(scopes: Scope[], more: Partial<NewKey> = {}) {
    const name = `${scopes.join('-')}-${Math.random().toString(36).slice(2, 8)}`
    const made = await this.ring.add({ name, scopes, rate: null, expiresAt: null, session: null, ...more })
    const isKnown = async () => (await this.call(made.token, 'GET', '/session')).body.name === made.key.name
    if (this.isGuardedByKeys) await vi.waitFor(async () => expect(await isKnown()).toBe(true), { timeout: 30_000 })
    return made
  }

  call(key: string | null, method: string, path: string, body?: object, headers = {}): Promise<Answer> {
    return call(this.url, key, method, path, body, headers)
  }

  audits(): Body[] {
    return this.log.map((line) => JSON.parse(line)).filter(({ audit }) => audit)
  }

  async mqttUrl(key: string): Promise<string> {
    const { body } = await this.call(key, 'GET', '/health')
    return /mqtts?:\/\/[\d.:]+/.exec(JSON.stringify(body))![0]
  }

  async stop(): Promise<void> {
    await this.queue.close()
    await this.#app.stop()
    rmSync(this.#folder, { recursive: true })
  }
}

export async function call(
  url: string,
  key: string | null,
  method: string,
  path: string,
  body?: object,
  headers = {},
): Promise<Answer> {
  const authorization = key === null ? {} : { Authorization: `Bearer ${key}` }
  const json = body ? { body: JSON.stringify(body) } : {}
  const type = body ? { 'Content-Type': 'application/json' } : {}
  const request = { method, ...json, headers: { ...authorization, ...type, ...headers } }
  const answer = await fetch(`${url}/api/v1${path}`, request)
  const text = await answer.text()
  return { status: answer.status, headers: answer.headers, body: text.startsWith('{') ? JSON.parse(text) : text }
}
