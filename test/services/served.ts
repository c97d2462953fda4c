import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KeyRing } from '../../src/access/key-ring.ts'
import { openQueue } from '../../src/queue/open.ts'
import { endAtExit, removeAtExit } from './processes.ts'

const root = join(import.meta.dirname, '../..')

/** One real server in a process of its own, with access control, a worker, and MQTT beside and over HTTP. */
export class Served {
  readonly folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-fuzz-')))
  readonly engineUrl: string
  log = ''
  url = ''
  mqttPort = 0
  key = ''
  #child!: ChildProcess

  private constructor(engineUrl: string | undefined) {
    this.engineUrl = engineUrl ?? `sqlite:${join(this.folder, 'x.db')}`
  }

  /**
   * @param before the program that runs it, and its arguments
   * @param engine default SQLite, in a file of its own
   */
  static async start({
    flags = [] as string[],
    before = [] as string[],
    engine: url = undefined as string | undefined,
  } = {}): Promise<Served> {
    const served = new Served(url)
    const queue = await openQueue(served.engineUrl)
    await queue.configureType('remote', { declared: true })
    const key = { name: 'fuzzer', scopes: ['admin'] as const, rate: null, expiresAt: null, session: null }
    served.key = (await new KeyRing(queue).add(key)).token
    await queue.close()
    const main = [join(root, 'src/cli/main.ts'), 'serve', '--handlers', join(root, 'test/services/served-handlers.ts')]
    const own = ['--engine', served.engineUrl, '--auth', 'keys', '--port', '0', '--mqtt-port', '0']
    const [program, ...args] = [...before, process.execPath, ...main, ...own, '--log-format', 'json', ...flags]
    const child = spawn(program!, args, { cwd: served.folder, stdio: ['ignore', 'ignore', 'pipe'] })
    served.#child = endAtExit(child)
    const { promise: ready, resolve, reject } = Promise.withResolvers<string>()
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}: ${served.log}`)))
    child.stderr!.on('data', (chunk) => {
      served.log += chunk
      const address = /"address":"([^"]+)","msg":"xqueue is ready"/.exec(served.log)
      if (address) resolve(address[1]!)
    })
    served.url = await ready
    const { body } = await served.call('GET', '/health')
    served.mqttPort = Number(/mqtt:\/\/[\d.]+:(\d+)/.exec(JSON.stringify(body))![1])
    return served
  }

  get port(): number {
    return Number(new URL(this.url).port)
  }

  get pid(): number {
    return this.#child.pid!
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /** In megabytes. */
  get residentMb(): number {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))![1]) / 1_024
  }

  /** What the log says at level error and above: what the server itself takes for a fault of its own. */
  get faults(): string[] {
    return this.log.split('\n').filter((line) => /"level":(50|60|"error"|"fatal")/.test(line) || /^\s+at /.test(line))
  }

  // biome-ignore lint/suspicious/noExplicitAny: answers of every call, compared field by field
  readonly call = async (method: string, path: string, body?: unknown): Promise<{ status: number; body: any }> => {
    const headers = { Authorization: `Bearer ${this.key}`, 'Content-Type': 'application/json' }
    const text = body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }
    const answer = await fetch(`${this.url}/api/v1${path}`, { method, headers, ...text })
    const answered = await answer.text()
    return { status: answer.status, body: answered === '' ? null : JSON.parse(answered) }
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGTERM')
    if (!this.hasEnded) await once(this.#child, 'exit')
    rmSync(this.folder, { recursive: true, force: true })
  }
}
