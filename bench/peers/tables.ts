import { median } from '../report.ts'
import { BEFORE, PEERS, type Peer } from './catalog.ts'
import { CALLS, SERVERS } from './http.ts'
import type { Figure } from './run.ts'
import { RATES_PER_SECOND, type Results, SHAPES } from './suites.ts'
import { type Cell, type Language, show, table, type Words } from './words.ts'

/** What `bench/results/peers.json` holds: the last results of each suite, and the machine. */
export interface Record {
  machine: { cpu: string; cores: number; memory_gib: number; node: string; os: string; load: number }
  peers?: Results
  shapes?: Results
  latency?: Results
  http?: Results
}

/** The generated parts of the documentation, by the name of their place. */
export const PARTS: Readonly<{ [name: string]: (record: Record, language: Language) => string }> = {
  machine: machineText,
  contenders,
  processing,
  submission,
  shapes: shapesTable,
  latency: latencyTable,
  http: httpTable,
  readme,
}

const QUEUE = { en: 'queue', zh: '队列' }
const none = '–'
const measured = (results: Results | undefined) => PEERS.filter(({ id }) => results?.figures[id])
const figuresOf = (results: Results | undefined, { id }: Peer, measure: string): Figure[] =>
  results?.figures[id]?.[measure] ?? []
const rateOf = (figures: readonly Figure[]) => median(figures.map(({ perSecond }) => perSecond))
const cpuOf = (figures: readonly Figure[]) => median(figures.map(({ cpuUs }) => cpuUs))

/** The median, and from the least to the most. */
function spread(figures: readonly Figure[]): string {
  if (figures.length === 0) return none
  const rates = figures.map(({ perSecond }) => perSecond)
  return `${show(rateOf(figures))} (${show(Math.min(...rates))}–${show(Math.max(...rates))})`
}
const cpu = (figures: readonly Figure[]) => (figures.length === 0 ? none : show(cpuOf(figures)))

/** Fewer rounds or tasks, or other work on the machine, and the figures are only a first impression. */
const WHOLE = { rounds: 5, tasks: 10_000, load: 1 }

/** What to say beside figures that are only a first impression; nothing beside others. */
function preliminary({ machine, peers, shapes, latency, http }: Record, language: Language): string {
  const all = [peers, shapes, latency, http].flatMap((results) => results?.settings ?? [])
  const isWhole = all.every(({ rounds, tasks }) => rounds >= WHOLE.rounds && tasks >= WHOLE.tasks)
  if (isWhole && machine.load <= WHOLE.load) return ''
  return language === 'en'
    ? `\n\n**These figures are preliminary:** compare CPU times and the order of queues, not rates. The run was short, or the machine
had other work.`
    : '\n\n**这些数据是临时的：** 请比较 CPU 时间和队列之间的次序，不要比较速率。这次运行很短，或者机器上还有其他工作。'
}

function machineText(record: Record, language: Language): string {
  const { machine, peers, shapes, latency } = record
  const { redis, postgres } = { ...latency?.versions, ...shapes?.versions, ...peers?.versions }
  const { rounds = 0, tasks = 0 } = peers?.settings ?? {}
  const [node, cores, gib, load] = [machine.node, machine.cores, machine.memory_gib, machine.load.toFixed(1)]
  const text =
    language === 'en'
      ? `${machine.cpu}, ${cores} cores, ${gib} GiB; Node ${node}, Redis ${redis}, PostgreSQL ${postgres}; ${rounds} rounds of up to
${show(tasks)} tasks; load average before the run: ${load}.`
      : `${machine.cpu}，${cores} 核，${gib} GiB；Node ${node}，Redis ${redis}，PostgreSQL ${postgres}；${rounds} 轮，每次最多
${show(tasks)} 个任务；运行前的平均负载：${load}。`
  return text + preliminary(record, language)
}

function contenders({ peers }: Record, language: Language): string {
  const head = [
    QUEUE,
    { en: 'runs on', zh: '运行环境' },
    { en: 'store', zh: '存储' },
    { en: 'an accepted task survives', zh: '已接受的任务能经受' },
    { en: 'set to', zh: '设置' },
    { en: 'lost', zh: '丢失' },
    { en: 'twice', zh: '重复' },
  ]
  const storeOf: { [kind: string]: Words | string } = {
    none: { en: 'memory', zh: '内存' },
    file: 'SQLite',
    redis: 'Redis',
    postgres: 'PostgreSQL',
  }
  const rows = PEERS.map((peer): Cell[] => {
    const all = Object.values(peers?.figures[peer.id] ?? {}).flat()
    const sum = (count: (figure: Figure) => number) =>
      all.length === 0 ? none : show(all.reduce((total, figure) => total + count(figure), 0))
    const missing = peers?.missing[peer.id] ? { en: 'not measured here', zh: '此处未测量' } : peer.setup
    return [
      peer.name,
      peer.isOverHttp ? `Node, ${peer.runs}` : peer.runs,
      storeOf[peer.store]!,
      peer.survives,
      missing,
      sum(({ lost, held }) => lost + held),
      sum(({ twice }) => twice),
    ]
  })
  return table(language, head, rows)
}

function rateTable(language: Language, results: Results | undefined, columns: readonly (readonly [Words, string])[]) {
  const head = [QUEUE, ...columns.flatMap(([title]) => [title, { en: 'CPU', zh: 'CPU' }])]
  const rows = measured(results).map((peer) => [
    peer.name,
    ...columns.flatMap(([, id]) => {
      const figures = figuresOf(results, peer, id)
      return [spread(figures), figures.length > 0 ? `${cpu(figures)} µs` : none]
    }),
  ])
  return table(language, head, rows)
}

function processing({ peers }: Record, language: Language): string {
  return rateTable(language, peers, [
    [{ en: '100 at once, tasks/s', zh: '并发 100，个/秒' }, 'work-100'],
    [{ en: '10 at once, tasks/s', zh: '并发 10，个/秒' }, 'work-10'],
    [{ en: '1 at once, tasks/s', zh: '并发 1，个/秒' }, 'work-1'],
  ])
}

function submission({ peers }: Record, language: Language): string {
  return rateTable(language, peers, [
    [{ en: '100 callers, tasks/s', zh: '100 个调用者，个/秒' }, 'submit-100'],
    [{ en: '1 caller, tasks/s', zh: '1 个调用者，个/秒' }, 'submit-1'],
  ])
}

function shapesTable({ shapes }: Record, language: Language): string {
  const rows = measured(shapes).map((peer) => [
    peer.name,
    ...SHAPES.map(({ id }) => {
      const figures = figuresOf(shapes, peer, id)
      return figures.length > 0 ? `${show(rateOf(figures))} / ${cpu(figures)}` : none
    }),
  ])
  return table(language, [QUEUE, ...SHAPES.map(({ id }) => id)], rows)
}

/** One in a thousand needs a thousand, or it is left out. */
const P999_SAMPLES_MIN = 1_000
const ms = (us: number) => `${show(us / 1_000)} ms`

function latencyTable({ latency }: Record, language: Language): string {
  const head = [
    { en: 'tasks per second', zh: '每秒任务数' },
    QUEUE,
    'p50',
    'p99',
    'p99.9',
    { en: 'CPU per task', zh: '每个任务的 CPU' },
    { en: 'samples', zh: '样本数' },
  ]
  const rows = RATES_PER_SECOND.flatMap((perSecond) =>
    measured(latency).flatMap((peer) => {
      const [id, cpuCell] = [`${perSecond}/s`, `${cpu(figuresOf(latency, peer, `${perSecond}/s`))} µs`]
      const found = latency?.latencies[peer.id]?.[id]
      if (!found) return []
      const { samples, p50, p99, p999 } = found
      const rare = samples < P999_SAMPLES_MIN ? none : ms(p999)
      return [[show(perSecond), peer.name, ms(p50), ms(p99), rare, cpuCell, show(samples)]]
    }),
  )
  return table(language, head, rows)
}

function httpTable({ http }: Record, language: Language): string {
  const head = [{ en: 'calls', zh: '请求' }, ...SERVERS.flatMap(({ name }) => [name, { en: 'CPU', zh: 'CPU' }])]
  const rows = CALLS.map(({ id, name }) => [
    name,
    ...SERVERS.flatMap((server) => {
      const figures = http?.figures[server.id]?.[id] ?? []
      return [spread(figures), figures.length > 0 ? `${cpu(figures)} µs` : none]
    }),
  ])
  return table(language, head, rows)
}

/** Each measure of XQueue beside that of the earlier version, if one has run. */
export function besideBefore({ figures, latencies }: Results): string {
  const head = [QUEUE, 'measure', ...['before', 'now'].flatMap((when) => [when, 'CPU', 'p50', 'p99'])]
  const cells = (id: string, measure: string): Cell[] => {
    const [all, late] = [figures[id]?.[measure] ?? [], latencies[id]?.[measure]]
    return [spread(all), `${cpu(all)} µs`, late ? ms(late.p50) : none, late ? ms(late.p99) : none]
  }
  const rows = [...PEERS, ...SERVERS].flatMap(({ id, name }) =>
    Object.keys(figures[id + BEFORE] ?? {}).map((measure): Cell[] => {
      return [name, measure, ...cells(id + BEFORE, measure), ...cells(id, measure)]
    }),
  )
  return rows.length === 0 ? '' : table('en', head, rows)
}

/** XQueue beside the peer of the same durability and language. */
function readme(record: Record, language: Language): string {
  const { peers, latency } = record
  const peerOf = (id: string) => PEERS.find((peer) => peer.id === id)!
  const rate = (id: string, measure: string): Cell => {
    const figures = figuresOf(peers, peerOf(id), measure)
    if (figures.length === 0) return none
    const [perSecond, us] = [show(rateOf(figures)), cpu(figures)]
    return { en: `${perSecond} tasks/s, ${us} µs`, zh: `${perSecond} 个/秒，${us} µs` }
  }
  const late = (id: string): Cell => {
    const found = latency?.latencies[id]?.['100/s']
    return found ? ms(found.p99) : none
  }
  const beside = (id: string, cell: Cell): Cell => {
    const { name } = peerOf(id)
    const of = (one: Language) => `${typeof cell === 'string' ? cell : cell[one]} (${name})`
    return { en: of('en'), zh: of('zh').replace(' (', '（').replace(/\)$/, '）') }
  }
  const row = (what: Words, ours: string, theirs: string, of: (id: string) => Cell) => {
    return [what, of(ours), beside(theirs, of(theirs))]
  }
  const processing = (id: string) => rate(id, 'work-100')
  const rows = [
    row(
      { en: 'Node, synced to disk (SQLite; PostgreSQL)', zh: 'Node，同步到磁盘（SQLite；PostgreSQL）' },
      'xqueue',
      'graphile-worker',
      processing,
    ),
    row({ en: 'Node, Redis', zh: 'Node，Redis' }, 'xqueue-redis', 'bullmq', processing),
    row({ en: 'Node, Redis, 100 submitters', zh: 'Node，Redis，100 个提交者' }, 'xqueue-redis', 'bullmq', (id) =>
      rate(id, 'submit-100'),
    ),
    row({ en: 'Go worker, Redis', zh: 'Go 工作进程，Redis' }, 'xqueue-go', 'asynq', processing),
    row({ en: 'Python worker, Redis', zh: 'Python 工作进程，Redis' }, 'xqueue-python', 'dramatiq', processing),
    row(
      { en: 'Start of a task at 100/s, Redis, p99', zh: '任务启动延迟，100/s，Redis，p99' },
      'xqueue-redis',
      'bullmq',
      late,
    ),
  ]
  const head = [{ en: 'workload', zh: '工作负载' }, 'XQueue', { en: 'compared with', zh: '比较对象' }]
  return table(language, head, rows) + preliminary(record, language)
}
