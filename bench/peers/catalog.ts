import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { bun, go, node, python, type Start } from './programs.ts'
import type { Words } from './words.ts'

export type StoreKind = 'none' | 'file' | 'redis' | 'postgres'

/** A queue in the comparison. `docs/performance.md` prints what is said here beside its figures. */
export interface Peer {
  id: string
  name: Words | string
  /** The program that submits and works. */
  runs: 'Node' | 'Bun' | 'Go' | 'Python'
  store: StoreKind
  /** XQueue behind its HTTP API, in a process of its own. */
  isOverHttp?: true
  /** What an accepted task survives. */
  survives: Words
  setup: Words
  /** Share of the tasks of a run, for one that takes longer. */
  share?: number
  /** Submitting and working in two processes is possible, and its clock is the system's. */
  hasLatency?: true
  hasShapes?: true
  /** The checkout of XQueue that it is started from; default this one. */
  checkout?: string
  /** What starts it. @throws Error if it cannot be had here */
  program: Start
}

const SYNCED = { en: 'loss of power: synced before the answer', zh: '断电：响应前已同步到磁盘' }
const MEMORY = { en: 'nothing: memory of Redis', zh: '不保证：仅在 Redis 内存中' }
const versionOf = (name: string) => {
  const lock = JSON.parse(readFileSync(join(import.meta.dirname, '../package-lock.json'), 'utf8'))
  return lock.packages[`node_modules/${name}`].version as string
}
const named = (name: string, lib = name.toLowerCase()) => `${name} ${versionOf(lib)}`
const DEFAULTS = { en: 'defaults; a limit of 1,000 is checked', zh: '默认设置；检查上限 1,000' }
const OVER_HTTP = { en: 'defaults, over HTTP', zh: '默认设置，通过 HTTP' }

export const PEERS: readonly Peer[] = [
  {
    id: 'xqueue',
    name: { en: 'XQueue, SQLite', zh: 'XQueue，SQLite' },
    runs: 'Node',
    store: 'file',
    survives: SYNCED,
    setup: DEFAULTS,
    hasLatency: true,
    hasShapes: true,
    program: node('xqueue', 'FILE'),
  },
  {
    id: 'graphile-worker',
    name: named('graphile-worker'),
    runs: 'Node',
    store: 'postgres',
    survives: SYNCED,
    setup: {
      en: 'local queue of 500, outcomes in batches; deletes finished tasks',
      zh: '本地队列 500，结果成批写入；删除已结束的任务',
    },
    hasLatency: true,
    hasShapes: true,
    program: node('graphile-worker', 'POSTGRES'),
  },
  {
    id: 'pg-boss',
    name: named('pg-boss'),
    runs: 'Node',
    store: 'postgres',
    survives: SYNCED,
    setup: {
      en: 'batches of 100, burst, LISTEN/NOTIFY',
      zh: '每批 100 个，burst，LISTEN/NOTIFY',
    },
    share: 0.5,
    hasLatency: true,
    program: node('pg-boss', 'POSTGRES'),
  },
  {
    id: 'bunqueue-durable',
    name: { en: `bunqueue ${versionOf('bunqueue')}, durable`, zh: `bunqueue ${versionOf('bunqueue')}，durable` },
    runs: 'Bun',
    store: 'file',
    survives: { en: 'end of the process: written before the answer', zh: '进程终止：响应前写入文件' },
    setup: { en: 'embedded, batches as large as the concurrency', zh: '内嵌，批大小等于并发数' },
    share: 0.25,
    program: bun('bunqueue', 'durable FILE'),
  },
  {
    id: 'bunqueue-file',
    name: { en: `bunqueue ${versionOf('bunqueue')}, file`, zh: `bunqueue ${versionOf('bunqueue')}，文件` },
    runs: 'Bun',
    store: 'file',
    survives: { en: 'end of the process after 10 ms', zh: '进程终止：10 ms 之后' },
    setup: { en: 'embedded, batches as large as the concurrency', zh: '内嵌，批大小等于并发数' },
    share: 0.25,
    program: bun('bunqueue', 'file FILE'),
  },
  {
    id: 'bunqueue-memory',
    name: { en: `bunqueue ${versionOf('bunqueue')}, memory`, zh: `bunqueue ${versionOf('bunqueue')}，内存` },
    runs: 'Bun',
    store: 'none',
    survives: { en: 'nothing: its own memory', zh: '不保证：仅在自身内存中' },
    setup: { en: 'embedded, batches as large as the concurrency', zh: '内嵌，批大小等于并发数' },
    program: bun('bunqueue', 'memory'),
  },
  {
    id: 'xqueue-redis',
    name: { en: 'XQueue, Redis', zh: 'XQueue，Redis' },
    runs: 'Node',
    store: 'redis',
    survives: MEMORY,
    setup: DEFAULTS,
    hasLatency: true,
    hasShapes: true,
    program: node('xqueue-redis', 'REDIS'),
  },
  {
    id: 'bullmq',
    name: named('BullMQ'),
    runs: 'Node',
    store: 'redis',
    survives: MEMORY,
    setup: { en: 'defaults; a global limit of 1,000 is checked', zh: '默认设置；检查全局上限 1,000' },
    hasLatency: true,
    hasShapes: true,
    program: node('bullmq', 'REDIS'),
  },
  {
    id: 'bee-queue',
    name: named('bee-queue'),
    runs: 'Node',
    store: 'redis',
    survives: MEMORY,
    setup: { en: 'storeJobs off', zh: '关闭 storeJobs' },
    hasLatency: true,
    program: node('bee-queue', 'REDIS'),
  },
  {
    id: 'xqueue-go',
    name: { en: 'XQueue, Redis, Go worker', zh: 'XQueue，Redis，Go 工作进程' },
    runs: 'Go',
    store: 'redis',
    isOverHttp: true,
    survives: MEMORY,
    setup: OVER_HTTP,
    hasShapes: true,
    program: go('go'),
  },
  {
    id: 'xqueue-go-sqlite',
    name: { en: 'XQueue, SQLite, Go worker', zh: 'XQueue，SQLite，Go 工作进程' },
    runs: 'Go',
    store: 'file',
    isOverHttp: true,
    survives: SYNCED,
    setup: OVER_HTTP,
    program: go('go'),
  },
  {
    id: 'asynq',
    name: 'Asynq 0.26',
    runs: 'Go',
    store: 'redis',
    survives: MEMORY,
    setup: { en: 'defaults, results kept for a day', zh: '默认设置，结果保留一天' },
    hasShapes: true,
    program: go('asynq'),
  },
  {
    id: 'river',
    name: 'River 0.51',
    runs: 'Go',
    store: 'postgres',
    survives: SYNCED,
    setup: {
      en: 'fetches as often as its own benchmark (2 and 20 ms)',
      zh: '领取间隔同其自带的基准测试（2 和 20 ms）',
    },
    share: 0.5,
    hasShapes: true,
    program: go('river'),
  },
  {
    id: 'xqueue-python',
    name: { en: 'XQueue, Redis, Python worker', zh: 'XQueue，Redis，Python 工作进程' },
    runs: 'Python',
    store: 'redis',
    isOverHttp: true,
    survives: MEMORY,
    setup: OVER_HTTP,
    share: 0.5,
    hasShapes: true,
    program: python('xqueue_bench.py'),
  },
  {
    id: 'dramatiq',
    name: 'Dramatiq 2.2',
    runs: 'Python',
    store: 'redis',
    survives: MEMORY,
    setup: { en: 'one process with threads, without results', zh: '单进程多线程，不保存结果' },
    share: 0.5,
    hasShapes: true,
    program: python('dramatiq_bench.py', 'dramatiq==2.2.*', 'redis==8.*'),
  },
  {
    id: 'celery',
    name: 'Celery 5.7',
    runs: 'Python',
    store: 'redis',
    survives: MEMORY,
    setup: {
      en: 'one process with threads, prefetch of 50, without results',
      zh: '单进程多线程，预取 50，不保存结果',
    },
    share: 0.2,
    program: python('celery_bench.py', 'celery==5.7.*', 'redis==8.*', 'packaging==26.*'),
  },
]

/** What the ids of an earlier XQueue end with. */
export const BEFORE = '-before'

/** XQueue as it was in another checkout. */
export function earlier(checkout: string): Peer[] {
  const own = PEERS.filter(({ id }) => id.startsWith('xqueue'))
  return own.map((peer) => ({ ...peer, id: peer.id + BEFORE, checkout }))
}
