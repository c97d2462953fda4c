import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { PAYLOAD } from './contenders/contender.ts'
import { type Row, ratioRow } from './report.ts'
import { root, startRedis, startXQueue } from './servers.ts'

/** A figure of one run: its rate, and the CPU time of all processes together. */
interface Figure {
  perSecond: number
  cpuUs: number
}

interface Measure {
  title: string
  kind: 'work' | 'submit'
  atOnce: number
  count: number
}

const MEASURES: readonly Measure[] = [
  { title: 'worker, concurrency 100', kind: 'work', atOnce: 100, count: 20_000 },
  { title: 'worker, concurrency 10', kind: 'work', atOnce: 10, count: 20_000 },
  { title: '1 submitter', kind: 'submit', atOnce: 1, count: 3_000 },
  { title: '100 concurrent submitters', kind: 'submit', atOnce: 100, count: 20_000 },
]

/** The command of each client, without its arguments. */
function commands(folder: string): Record<string, { command: string[]; env: Record<string, string> }> {
  const binary = join(folder, 'bench')
  execFileSync('go', ['build', '-o', binary, '.'], { cwd: join(root, 'bench/clients/go'), stdio: 'inherit' })
  return {
    Go: { command: [binary], env: {} },
    Python: {
      command: ['python3', join(root, 'bench/clients/python_bench.py')],
      env: { PYTHONPATH: join(root, 'clients/python') },
    },
  }
}

/** Workers and submitters in other languages, over HTTP: server, client and store on this machine. */
export async function clients(rounds: number): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-clients-'))
  const languages = commands(folder)
  const redis = await startRedis(folder)
  const admin = new Redis(redis.port)
  const rows = new Map<string, Figure[]>()
  for (let round = 0; round < rounds; round++) {
    for (const store of ['Redis', 'SQLite']) {
      for (const measure of MEASURES) {
        for (const [language, { command, env }] of Object.entries(languages)) {
          await admin.flushall()
          const file = join(folder, 'x.db')
          const engine = store === 'Redis' ? `redis://127.0.0.1:${redis.port}` : `sqlite:${file}`
          const figure = await measureOnce(measure, engine, command, env, store === 'Redis' ? admin : null)
          for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true })
          const title = `${language}: ${measure.title}, ${store}`
          rows.set(title, [...(rows.get(title) ?? []), figure])
        }
      }
    }
  }
  admin.disconnect()
  await redis.stop()
  rmSync(folder, { recursive: true })
  return [...rows].flatMap(([title, figures]) => [
    ratioRow(
      title,
      'tasks/s',
      figures.map(({ perSecond }) => perSecond),
      '',
      [],
    ),
    ratioRow(
      `${title}: CPU of all processes`,
      'µs',
      figures.map(({ cpuUs }) => cpuUs),
      '',
      [],
    ),
  ])
}

async function measureOnce(
  { kind, atOnce, count }: Measure,
  engine: string,
  command: readonly string[],
  env: Record<string, string>,
  redis: Redis | null,
): Promise<Figure> {
  const server = await startXQueue(engine, '--no-worker')
  if (kind === 'work') await fill(server.url, count)
  const redisBefore = redis ? await redisCpuMicros(redis) : 0
  const before = server.cpuMicros()
  const [program, ...args] = [...command, kind, String(atOnce), String(count)]
  const options = { env: { ...process.env, ...env, XQUEUE_SERVER: server.url } }
  const client = spawn(program!, args, { ...options, stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  client.stdout.on('data', (chunk) => {
    text += chunk
  })
  const childrenBefore = childrenCpuMicros()
  await once(client, 'close')
  const { seconds } = JSON.parse(text) as { seconds: number }
  const clientUs = childrenCpuMicros() - childrenBefore
  const cpuUs = clientUs + server.cpuMicros() - before + (redis ? (await redisCpuMicros(redis)) - redisBefore : 0)
  await server.stop()
  return { perSecond: count / seconds, cpuUs: cpuUs / count }
}

async function fill(url: string, count: number): Promise<void> {
  const tasks = Array.from({ length: 1_000 }, () => ({ type: 'bench', payload: PAYLOAD }))
  const request = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ tasks }) }
  for (let submitted = 0; submitted < count; submitted += tasks.length) {
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
