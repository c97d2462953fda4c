/**
 * A bounded load: submits tasks in batches, never more than `--waiting` unfinished, and says how fast they came in and
 * were run. With `npm start` in another terminal:
 *
 *   npx node examples/stress.ts --tasks 2000 --batch 100 --in-flight 4 --waiting 1000
 *
 * `--type` and `--payload` choose what is run. Servers other than this machine's are refused without `--anywhere`.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'

const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/
const LOOK_AGAIN_MS = 100

const text = (fallback: string) => ({ type: 'string', default: fallback }) as const
const { values } = parseArgs({
  options: {
    server: text(process.env.XQUEUE_SERVER ?? 'http://127.0.0.1:8080'),
    tasks: text('2000'),
    batch: text('100'),
    'in-flight': text('4'),
    waiting: text('1000'),
    type: text('example'),
    payload: text('{"duration": 0}'),
    anywhere: { type: 'boolean', default: false },
  },
})
const [total, batch, inFlight, waitingMax] = [values.tasks, values.batch, values['in-flight'], values.waiting].map(
  whole,
)
if (!values.anywhere && !LOOPBACK.test(new URL(values.server).hostname)) {
  console.error(`${values.server} is not this machine: say --anywhere if you mean to load it`)
  process.exit(2)
}

interface Task {
  status: string
  created_at: string
  started_at: string | null
  completed_at: string | null
}

/** This run's tasks are found by a tag of their own. */
const run = `stress-${process.pid}-${Date.now()}`
const task = { type: values.type, payload: JSON.parse(values.payload), queue_timeout: 0, tags: { run } }
let submitted = 0
let unfinished = 0

const startedAt = performance.now()
await Promise.all(Array.from({ length: inFlight! }, submitUntilAllAre))
const submittedAt = performance.now()
for (unfinished = total!; unfinished > 0; unfinished = await countUnfinished()) await sleep(LOOK_AGAIN_MS)
const endedAt = performance.now()

const tasks = await list()
const failed = tasks.filter(({ status }) => status !== 'success').length
const at = (time: string | null) => Date.parse(time ?? '')
const waits = tasks.map(({ created_at, started_at }) => at(started_at) - at(created_at)).sort((a, b) => a - b)
const rate = (from: number, to: number) => Math.round((total! / (to - from)) * 1_000)
console.log(`submitted  ${total} tasks, ${rate(startedAt, submittedAt)} a second`)
console.log(`finished   ${tasks.length - failed} well, ${failed} not, ${rate(startedAt, endedAt)} a second`)
console.log(
  `waited     p50 ${waits[Math.floor(waits.length * 0.5)]} ms, p99 ${waits[Math.floor(waits.length * 0.99)]} ms`,
)
process.exitCode = failed > 0 || tasks.length !== total ? 1 : 0

/** One of the lanes that submit; all together they stay within the bound. */
async function submitUntilAllAre(): Promise<void> {
  while (submitted < total!) {
    const count = Math.min(batch!, total! - submitted)
    if (unfinished + count > waitingMax! && unfinished > 0) {
      await sleep(LOOK_AGAIN_MS)
      unfinished = await countUnfinished()
      continue
    }
    submitted += count
    unfinished += count
    await call('POST', '/tasks/batch', { tasks: Array(count).fill(task) })
  }
}

async function countUnfinished(): Promise<number> {
  const [pending, processing] = await Promise.all([list('pending'), list('processing')])
  return pending.length + processing.length
}

/** All tasks of this run, page by page. */
async function list(status?: string): Promise<Task[]> {
  const found: Task[] = []
  let cursor: string | null = null
  do {
    const filter = { tag: `run:${run}`, limit: '1000', ...(status ? { status } : {}), ...(cursor ? { cursor } : {}) }
    const page: { tasks: Task[]; next_cursor: string | null } = await call(
      'GET',
      `/tasks?${new URLSearchParams(filter)}`,
    )
    found.push(...page.tasks)
    cursor = page.next_cursor
  } while (cursor)
  return found
}

async function call<T>(method: string, path: string, body?: object): Promise<T> {
  const key = process.env.XQUEUE_KEY
  const headers = {
    ...(body ? { 'Content-Type': 'application/json' } : {}),
    ...(key ? { Authorization: `Bearer ${key}` } : {}),
  }
  const answer = await fetch(`${values.server}/api/v1${path}`, {
    method,
    headers,
    ...(body ? { body: JSON.stringify(body) } : {}),
  })
  if (!answer.ok) throw new Error(`${method} ${path} answered ${answer.status}: ${await answer.text()}`)
  return (await answer.json()) as T
}

function whole(given: string): number {
  const value = Number(given)
  if (Number.isInteger(value) && value >= 1) return value
  console.error(`${given} must be a whole number of 1 or more`)
  process.exit(2)
}
