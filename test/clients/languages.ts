import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { endAtExit, removeAtExit } from '../fixtures/processes.ts'
import { root } from '../fixtures/root.ts'

const clients = join(root, 'clients')
const binary = join(removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-go-'))), 'worker')

/** The same worker in each language: its command, its environment, and the step that builds it. */
export const LANGUAGES = {
  python: {
    command: ['python3', join(clients, 'python/tests/worker.py')],
    env: { PYTHONPATH: join(clients, 'python') },
    build: () => undefined,
  },
  go: {
    command: [binary],
    env: {},
    build: () => execFileSync('go', ['build', '-o', binary, './internal/testworker'], { cwd: join(clients, 'go') }),
  },
  typescript: {
    command: [process.execPath, join(import.meta.dirname, 'worker.ts')],
    env: {},
    build: () => undefined,
  },
} as const

/** Starts the worker of a language, whose output is dropped. */
export function startWorker(
  { command, env }: (typeof LANGUAGES)[keyof typeof LANGUAGES],
  server: string,
): ChildProcess {
  const [program, ...args] = command
  return endAtExit(spawn(program, args, { env: { ...process.env, ...env, XQUEUE_SERVER: server }, stdio: 'ignore' }))
}
