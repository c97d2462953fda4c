import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { root } from '../fixtures/root.ts'

export interface Request {
  /** Sources that differ from those of the last request, as paths within the tree. */
  changed: readonly string[]
  files: readonly string[]
  /** Full names of the tests; without it all tests of the files run. */
  names?: readonly string[]
}

export interface Answer {
  tests: { file: string; name: string; state: string; ms: number }[]
  /** A test failed, a file could not be loaded, or an error was caught by no one. */
  isBroken: boolean
}

/** Its memory grows with each run. */
const RUNS_MAX = 300

/** Runs chosen tests of a tree until the first one that fails, in a process that stays. */
export class Runner {
  readonly #folder: string
  readonly #env: NodeJS.ProcessEnv
  readonly #setupFiles: string
  #process: { child: ChildProcess; ended: AbortSignal } | null = null
  #runs = 0

  constructor(folder: string, { env = {}, setupFiles = [] as string[] } = {}) {
    this.#folder = folder
    this.#env = env
    this.#setupFiles = ['test/fixtures/setup.ts', ...setupFiles].join(',')
  }

  /** Null: it does not end, or the process has ended by itself. */
  async run(request: Request, msMax: number): Promise<Answer | null> {
    this.#runs++
    if (this.#runs > RUNS_MAX) this.stop()
    this.#process ??= await this.#start()
    const { child, ended } = this.#process
    try {
      child.send(request)
      const [answer] = await once(child, 'message', { signal: AbortSignal.any([ended, AbortSignal.timeout(msMax)]) })
      return answer
    } catch {
      this.stop()
      return null
    }
  }

  /** Ends the process with its tests and the servers that they have started. */
  stop(): void {
    const pid = this.#process?.child.pid
    this.#process = null
    this.#runs = 0
    try {
      if (pid !== undefined) process.kill(-pid, 'SIGKILL')
    } catch {
      // It has ended already.
    }
  }

  async #start() {
    const env = { ...process.env, CGO_ENABLED: '0', NODE_COMPILE_CACHE: join(root, '.cache/node'), ...this.#env }
    const path = join(this.#folder, 'test/mutants/vitest-process.ts')
    const child = fork(path, [this.#setupFiles], { cwd: this.#folder, env, detached: true, stdio: 'ignore' })
    const ended = new AbortController()
    child.once('exit', () => ended.abort())
    await once(child, 'message', { signal: ended.signal })
    return { child, ended: ended.signal }
  }
}
