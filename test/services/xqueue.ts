import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, vi } from 'vitest'
import { freePort } from './ports.ts'
import { endAtExit, removeAtExit } from './processes.ts'

export const root = join(import.meta.dirname, '../..')

// biome-ignore lint/suspicious/noExplicitAny: answers of every call, compared field by field
export type Body = any

/** `xqueue serve` in a process and a folder of its own, on a port that it keeps: it can be killed and started again. */
export class XQueue {
  readonly folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-server-')))
  readonly url: string
  readonly #flags: string[]
  #child: ChildProcess | undefined

  static async start(...flags: string[]): Promise<XQueue> {
    const server = await XQueue.prepare(...flags)
    await server.startAgain()
    return server
  }

  /** Not started yet: what it needs can be put into its folder first. */
  static async prepare(...flags: string[]): Promise<XQueue> {
    return new XQueue(await freePort(), flags)
  }

  private constructor(port: number, flags: string[]) {
    this.url = `http://127.0.0.1:${port}`
    const own = ['--port', String(port), '--mqtt-port', '0', '--engine', `sqlite:${join(this.folder, 'xqueue.db')}`]
    this.#flags = [...own, ...flags]
  }

  async startAgain(): Promise<void> {
    const child = spawn(process.execPath, [join(root, 'src/cli/main.ts'), 'serve', ...this.#flags], {
      cwd: this.folder,
      env: { ...process.env, XQUEUE_SERVER: this.url }, // where handlers that submit find it
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    this.#child = endAtExit(child)
    await new Promise<void>((resolve, reject) => {
      let log = ''
      child.stderr.on('data', (chunk) => {
        log += chunk
        if (log.includes('"address":')) resolve()
      })
      child.once('close', () => reject(new Error(log)))
    })
  }

  /** Ends it as a crash does. */
  async kill(): Promise<void> {
    if (!this.#child || this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill('SIGKILL')
    await once(this.#child, 'exit')
  }

  async stop(): Promise<void> {
    await this.kill()
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  }

  async call(method: string, path: string, body?: object): Promise<{ status: number; body: Body }> {
    const json = body ? { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } } : {}
    const answer = await fetch(`${this.url}/api/v1${path}`, { method, ...json })
    return { status: answer.status, body: await answer.json() }
  }

  async submit(type: string, payload: unknown = {}, more: object = {}): Promise<string> {
    const answer = await this.call('POST', '/tasks', { type, payload, ...more })
    expect(answer).toMatchObject({ status: 201 })
    return answer.body.id
  }

  /** The task, once it looks like this. */
  until(id: string, looks: object): Promise<Body> {
    return vi.waitFor(
      async () => {
        const { body } = await this.call('GET', `/tasks/${id}`)
        expect(body).toMatchObject(looks)
        return body
      },
      { timeout: 30_000, interval: 20 },
    )
  }

  /** Waits until somebody runs tasks of this type. */
  async untilKnown(type: string): Promise<void> {
    await vi.waitFor(async () => expect((await this.call('GET', '/handlers')).body.handlers).toContain(type), {
      timeout: 60_000,
      interval: 20,
    })
  }
}
