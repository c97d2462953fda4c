import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { PAYLOAD } from './contenders/contender.ts'
import { type Row, ratioRow } from './report.ts'
import { root, startRedis, startXQueue } from './servers.ts'

/** A figure of one run: its rate, and the CPU time of all processes together for a task. */
interface Figure {
  perSecond: number
  cpuUs: number
}

interface Measure {
  title: string
  kind: 'work' | 'submit'
  atOnce: number
  /** Share of the tasks of a run. */
  share: number
}

const MEASURES: readonly Measure[] = [
  { title: 'worker, concurrency 100', kind: 'work', atOnce: 100, share: 1 },
  { title: 'worker, concurrency 10', kind: 'work', atOnce: 10, share: 1 },
  { title: '1 submitter', kind: 'submit', atOnce: 1, share: 0.2 },
  { title: '100 concurrent submitters', kind: 'submit', atOnce: 100, share: 1 },
]

/** A program with the arguments `work CONCURRENCY COUNT` and `submit CALLERS COUNT`, and for peers `fill 0 COUNT`. */
interface Program {
  command: readonly string[]
  env: Record<string, string>
}
interface Language {
  xqueue: Program
  /** A queue of that language on the same Redis. */
  peer: Program & { name: string }
}

const DRAMATIQ = 'dramatiq[redis]==1.17.1'

function languages(folder: string): Record<string, Language> {
  const built = (source: string) => {
    const binary = join(folder, source)
    execFileSync('go', ['build', '-o', binary, '.'], { cwd: join(root, 'bench/clients', source), stdio: 'inherit' })
    return binary
  }
  const script = (name: string) => join(root, 'bench/clients', name)
  return {
    Go: {
      xqueue: { command: [built('go')], env: {} },
      peer: { name: 'Asynq', command: [built('asynq')], env: {} },
    },
    Python: {
      xqueue: { command: ['python3', script('python_bench.py')], env: { PYTHONPATH: join(root, 'clients/python') } },
      peer: { name: 'Dramatiq', command: [pythonWithDramatiq(), script('dramatiq_bench.py')], env: {} },
    },
  }
}

/** Installed once, beside the packages of the bench. */
function pythonWithDramatiq(): string {
  const folder = join(root, 'bench/node_modules/.cache/dramatiq')
  const python = join(folder, 'bin/python3')
  if (!existsSync(join(folder, 'bin/dramatiq'))) {
    execFileSync('python3', ['-m', 'venv', folder], { stdio: 'inherit' })
    execFileSync(python, ['-m', 'pip', 'install', '--quiet', DRAMATIQ], { stdio: 'inherit' })
  }
  return python
}

/**
 * Workers and submitters in other languages over HTTP, beside a queue of their language: server, client and Redis on
 * this machine. Redis has no persistence. Asynq keeps results, Dramatiq does not.
 */
export async function clients(rounds: number, tasks: number, stores = ['Redis', 'SQLite']): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-clients-'))
  const all = Object.entries(languages(folder))
  const redis = await startRedis(folder)
  const admin = new Redis(redis.port)
  const figures = new Map<string, Figure[]>()
  const add = async (title: string, measuring: Promise<Figure>) =>
    figures.set(title, [...(figures.get(title) ?? []), await measuring])
  const title = (language: string, measure: Measure, store: string) => `${language}: ${measure.title}, ${store}`
  for (let round = 0; round < rounds; round++) {
    for (const measure of MEASURES) {
      for (const [language, { xqueue, peer }] of all) {
        const count = tasks * measure.share
        for (const store of stores) {
          await admin.flushall()
          const file = join(folder, 'x.db')
          const engine = store === 'Redis' ? `redis://127.0.0.1:${redis.port}` : `sqlite:${file}`
          await add(
            title(language, measure, store),
            overHttp(measure, count, engine, xqueue, store === 'Redis' ? admin : null),
          )
          for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true })
        }
        await admin.flushall()
        await add(title(language, measure, peer.name), ofPeer(measure, count, redis.port, peer, admin))
      }
    }
  }
  admin.disconnect()
  await redis.stop()
  rmSync(folder, { recursive: true })
  return all.flatMap(([language, { peer }]) =>
    MEASURES.flatMap((measure) =>
      stores.flatMap((store) => {
        const name = title(language, measure, store)
        const [ours, theirs] = [figures.get(name)!, figures.get(title(language, measure, peer.name))!]
        const cpu = (all: Figure[]) => all.map(({ cpuUs }) => cpuUs)
        const rate = (all: Figure[]) => all.map(({ perSecond }) => perSecond)
        return [
          ratioRow(name, 'tasks/s', rate(ours), peer.name, rate(theirs)),
          ratioRow(`${name}: CPU of all processes`, 'µs', cpu(ours), peer.name, cpu(theirs)),
        ]
      }),
    ),
  )
}

async function overHttp(
  measure: Measure,
  count: number,
  engine: string,
  { command, env }: Program,
  redis: Redis | null,
): Promise<Figure> {
  const server = await startXQueue(engine, '--no-worker')
  if (measure.kind === 'work') await fill(server.url, count)
  const before = server.cpuMicros()
  const figure = await run(measure, count, { command, env: { ...env, XQUEUE_SERVER: server.url } }, redis)
  const serverUs = server.cpuMicros() - before
  await server.stop()
  return { ...figure, cpuUs: figure.cpuUs + serverUs / count }
}

async function ofPeer(measure: Measure, count: number, port: number, program: Program, redis: Redis): Promise<Figure> {
  const env = { ...program.env, REDIS_PORT: String(port) }
  const [command, ...args] = [...program.command, 'fill', '0', String(count)]
  if (measure.kind === 'work') execFileSync(command!, args, { env: { ...process.env, ...env } })
  return run(measure, count, { command: program.command, env }, redis)
}

async function run(
  { kind, atOnce }: Measure,
  count: number,
  { command, env }: Program,
  redis: Redis | null,
): Promise<Figure> {
  const redisBefore = redis ? await redisCpuMicros(redis) : 0
  const childrenBefore = childrenCpuMicros()
  const [program, ...args] = [...command, kind, String(atOnce), String(count)]
  const client = spawn(program!, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  client.stdout.on('data', (chunk) => {
    text += chunk
  })
  await once(client, 'close')
  const { seconds } = JSON.parse(text) as { seconds: number }
  const cpuUs = childrenCpuMicros() - childrenBefore + (redis ? (await redisCpuMicros(redis)) - redisBefore : 0)
  return { perSecond: count / seconds, cpuUs: cpuUs / count }
}

async function fill(url: string, count: number): Promise<void> {
  const tasks = Array.from({ length: 1_000 }, () => ({ type: 'bench', payload: PAYLOAD }))
  for (let left = count; left > 0; left -= tasks.length) {
    const body = JSON.stringify({ tasks: tasks.slice(0, left) })
    const request = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body }
    const answer = await fetch(`${url}/api/v1/tasks/batch`, request)
    if (answer.status !== 201) throw new Error(await answer.text())
  }
}

/** CPU time of the ended children of this process. Linux counts in hundredths of a second. */
function childrenCpuMicros(): number {
  const fields = readFileSync('/proc/self/stat', 'utf8').split(') ')[1]!.split(' ')
  return (Number(fields[13]) + Number(fields[14])) * 10_000
}

async function redisCpuMicros(redis: Redis): Promise<number> {
  const info = await redis.info('cpu')
  const [user, system] = ['user', 'sys'].map((name) =>
    Number(new RegExp(`^used_cpu_${name}:(\\S+)`, 'm').exec(info)![1]),
  )
  return (user! + system!) * 1e6
}
