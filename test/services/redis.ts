import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { installRedis } from './installed.ts'
import { NEWER, type Newer, newerRedis } from './newer-redis.ts'
import { freePort } from './ports.ts'
import { endAtExit, removeAtExit } from './processes.ts'

export interface RunningRedis {
  url: string
  port: number
  folder: string
  /** Ends it as a crash does. */
  kill(): Promise<void>
  /** Starts it again where it was, with what it has on the disk. */
  start(): Promise<void>
  signal(signal: NodeJS.Signals): void
  /** Ends it and removes what it kept. */
  stop(): Promise<void>
}

/** A redis-server of the tests' own on the loopback address, without persistence unless `flags` say so. */
export async function startRedis(...flags: string[]): Promise<RunningRedis> {
  installRedis()
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-redis-')))
  // Nodes of a cluster talk to each other on a port 10,000 higher.
  const port = await freePort(flags.includes('--cluster-enabled') ? 55_000 : undefined)
  let server: ChildProcess
  const start = async () => {
    const args = ['--port', String(port), '--dir', folder, '--save', '', '--appendonly', 'no', '--bind', '127.0.0.1']
    server = endAtExit(spawn(serverProgram(), [...args, ...flags], { stdio: ['ignore', 'pipe', 'inherit'] }))
    await ready(server)
  }
  const kill = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return
    server.kill('SIGKILL')
    await once(server, 'exit')
  }
  await start()
  const stop = async () => {
    await kill()
    rmSync(folder, { recursive: true, force: true })
  }
  return { url: `redis://127.0.0.1:${port}`, port, folder, kill, start, signal: (name) => server.kill(name), stop }
}

/** The system's Redis, or the one that `XQUEUE_TEST_REDIS` names. */
export function serverProgram(): string {
  const name = process.env.XQUEUE_TEST_REDIS
  if (!name) return 'redis-server'
  if (name in NEWER) return newerRedis(name as Newer)
  throw new Error(`XQUEUE_TEST_REDIS is ${name} and must be one of ${Object.keys(NEWER).join(', ')}`)
}

/** Runs redis-cli and gives what it prints. */
export function redisCli(port: number, ...args: string[]): string {
  return execFileSync('redis-cli', ['-p', String(port), ...args], { encoding: 'utf8' }).trim()
}

/** Waits until it says so. */
export async function ready(server: ChildProcess, saying = 'Ready to accept connections'): Promise<void> {
  let text = ''
  const found = Promise.withResolvers<void>()
  server.stdout!.on('data', (chunk) => {
    text = (text + chunk).slice(-10_000)
    if (text.includes(saying)) found.resolve()
  })
  server.once('error', found.reject)
  server.once('exit', (code) => found.reject(new Error(`redis-server ended with ${code}: ${text}`)))
  await found.promise
}
