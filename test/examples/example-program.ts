import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, vi } from 'vitest'
import { endAtExit } from '../fixtures/processes.ts'
import { root } from '../fixtures/root.ts'

/** Its folder, and the folder in which its programs run. */
type Place = { url: string; folder: string }

export interface Run {
  child: ChildProcess
  output: string
}

/** Starts a program of an example as its header says, with the server's real address. */
export function start({ url, folder: cwd }: Place, command: string, args: string[]): Run {
  const env = { ...process.env, XQUEUE_SERVER: url, PYTHONPATH: join(root, 'clients/python'), PORT: '0' }
  const run: Run = {
    child: endAtExit(spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })),
    output: '',
  }
  for (const stream of [run.child.stdout!, run.child.stderr!]) {
    stream.on('data', (chunk) => {
      run.output += chunk
    })
  }
  return run
}

/** Runs a program until it exits with the expected code; returns its output. */
export async function finish(run: Run, code = 0): Promise<string> {
  const [exit] = await once(run.child, 'close')
  expect({ exit, output: run.output }).toEqual({ exit: code, output: run.output })
  return run.output
}

export const node = (server: Place, file: string, ...args: string[]) =>
  start(server, process.execPath, [join(root, 'examples', file), ...args])

export async function stop({ child }: Run): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  await once(child, 'close')
}

export const untilPrinted = (run: Run, text: RegExp): Promise<string> =>
  vi.waitFor(() => text.exec(run.output)?.[0] ?? Promise.reject(new Error(run.output)), {
    timeout: 60_000,
    interval: 20,
  })

/** The words of a line in an example's header, as a reader would type them, from `start` on. */
export function commandOf(file: string, begins: string): string {
  const line = readFileSync(join(root, 'examples', file), 'utf8')
    .split('\n')
    .map((text) => text.replace(/^(\/\/|#| \*)?\s*/, ''))
    .find((text) => text.startsWith(begins))
  if (!line) throw new Error(`examples/${file} does not say \`${begins}\``)
  return line.replace(/ {2,}\(.*$/, '')
}
