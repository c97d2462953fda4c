import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { freePort } from '../fixtures/ports.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { main } from '../fixtures/root.ts'
import type { JudgedStore } from './judged-stores.ts'

/** Short, so that a frozen process loses its leases. */
export const LEASE_MS = 2_000
const HANDLERS = join(import.meta.dirname, 'handlers.ts')
const READY_MS_MAX = 120_000

/** `xqueue serve` or `xqueue worker`, started again and again on one port. */
export class JudgedProcess {
  readonly url: string | null
  /** The end of its log. */
  log = ''
  readonly #args: readonly string[]
  readonly #env: NodeJS.ProcessEnv
  #child: ChildProcess | undefined

  static async create(what: 'serve' | 'worker', store: JudgedStore, folder: string): Promise<JudgedProcess> {
    return new JudgedProcess(what, store, folder, what === 'serve' ? await freePort() : null)
  }

  private constructor(what: 'serve' | 'worker', { url, units }: JudgedStore, folder: string, port: number | null) {
    this.url = port === null ? null : `http://127.0.0.1:${port}`
    this.#env = { ...process.env, JUDGE_FOLDER: folder, JUDGE_UNITS: JSON.stringify(units) }
    const own = ['--engine', url, '--handlers', HANDLERS, '--concurrency', '5', '--log-format', 'json']
    const timing = ['--lease', `${LEASE_MS}ms`, '--shutdown', '2s']
    this.#args = [main, what, ...own, ...timing, '--mqtt', 'off', ...(port === null ? [] : ['--port', String(port)])]
  }

  get pid(): number {
    return this.#child!.pid!
  }

  get hasEnded(): boolean {
    return this.#child === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /** @throws Error with its log if it ends instead */
  async start(): Promise<void> {
    const child = endAtExit(
      spawn(process.execPath, this.#args, { env: this.#env, stdio: ['ignore', 'ignore', 'pipe'] }),
    )
    this.#child = child
    const ready = Promise.withResolvers<void>()
    let text = ''
    child.stderr!.on('data', (chunk) => {
      text = (text + chunk).slice(-20_000)
      this.log = text
      if (/"msg":"xqueue is ready"/.test(text)) ready.resolve()
    })
    child.once('close', (code) => ready.reject(new Error(`a process ended with ${code} instead of starting: ${text}`)))
    const late = setTimeout(() => ready.reject(new Error(`a process is not ready: ${text}`)), READY_MS_MAX)
    try {
      await ready.promise
    } finally {
      clearTimeout(late)
    }
  }

  signal(name: NodeJS.Signals): void {
    this.#child!.kill(name)
  }

  /** @returns its exit code, null if the signal ended it */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    if (this.hasEnded) return this.#child?.exitCode ?? null
    this.#child!.kill(signal)
    await once(this.#child!, 'exit')
    return this.#child!.exitCode
  }
}
