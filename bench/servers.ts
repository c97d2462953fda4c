import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { endAtExit } from '../test/fixtures/processes.ts'
import { cpuMicrosOf } from './processes.ts'

export const root = join(import.meta.dirname, '..')

export interface Running {
  url: string
  pid: number
  /** What its process has used of the CPU, in microseconds. */
  cpuMicros(): number
  stop(): Promise<void>
}

export interface Redis {
  port: number
  pid: number
  stop(): Promise<void>
}

/** A Redis of the bench's own, without persistence. */
export async function startRedis(folder: string, ...flags: string[]): Promise<Redis> {
  const port = await freePort()
  const args = ['--port', String(port), '--save', '', '--appendonly', 'no', '--dir', folder, ...flags]
  const redis = endAtExit(spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] }))
  await until(redis, /Ready to accept connections/).catch((error: unknown) => {
    throw new Error('redis-server is needed to run BullMQ beside XQueue (apt-get install redis-server)', {
      cause: error,
    })
  })
  return { port, pid: redis.pid!, stop: () => stop(redis) }
}

/** `xqueue serve` with the bench's handlers. */
export function startXQueue(engine: string, ...flags: string[]): Promise<Running> {
  return startXQueueOf(root, engine, ...flags)
}

/** The same from another checkout. */
export async function startXQueueOf(checkout: string, engine: string, ...flags: string[]): Promise<Running> {
  const main = join(checkout, 'src/cli/xqueue.ts')
  const handlers = join(checkout, 'bench/handlers.ts')
  const mqtt = flags.includes('--mqtt') ? [] : ['--mqtt', 'off']
  const args = [main, 'serve', '--port', '0', '--engine', engine, ...mqtt, '--handlers', handlers, ...flags]
  const child = endAtExit(spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] }))
  const [, url] = await until(child, /"address":"([^"]+)"/)
  return runningAt(url!, child)
}

/** `xqueue worker` with the bench's handlers. */
export async function startWorker(engine: string): Promise<Running> {
  const args = [
    join(root, 'src/cli/xqueue.ts'),
    'worker',
    '--engine',
    engine,
    '--handlers',
    join(root, 'bench/handlers.ts'),
  ]
  const child = endAtExit(spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] }))
  await until(child, /"msg":"xqueue is ready"/)
  return runningAt('', child)
}

/** Fastify with the same schemas and nothing behind them. */
export async function startBare(): Promise<Running> {
  const bare = join(root, 'bench/bare-fastify.ts')
  const child = endAtExit(spawn(process.execPath, [bare], { stdio: ['ignore', 'ignore', 'pipe'] }))
  const [, url] = await until(child, /listening on (\S+)/)
  return runningAt(url!, child)
}

function runningAt(url: string, child: ChildProcess): Running {
  return { url, pid: child.pid!, cpuMicros: () => cpuMicrosOf([child.pid!]), stop: () => stop(child) }
}

export async function until(child: ChildProcess, ready: RegExp): Promise<RegExpExecArray> {
  let text = ''
  const found = Promise.withResolvers<RegExpExecArray>()
  for (const stream of [child.stdout, child.stderr]) {
    const look = (chunk: Buffer) => {
      text = (text + chunk).slice(-10_000)
      const match = ready.exec(text)
      if (!match) return
      stream?.off('data', look).resume()
      found.resolve(match)
    }
    stream?.on('data', look)
  }
  child.once('error', found.reject)
  child.once('exit', (code) => found.reject(new Error(`it ended with ${code}: ${text}`)))
  return found.promise
}

export async function stop(child: ChildProcess): Promise<void> {
  child.kill('SIGTERM')
  if (child.exitCode === null) await once(child, 'exit')
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  return port
}
