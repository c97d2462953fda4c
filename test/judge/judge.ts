import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { SeededRandom } from '../simulation/random.ts'
import { Caller } from './caller.ts'
import { Faults } from './faults.ts'
import { JudgedProcess } from './judged-process.ts'
import { type StoreName, startStore } from './judged-stores.ts'
import { Load } from './load.ts'
import type { Run, Schedule, Seen, TaskJson } from './record.ts'
import { judged, type Violation } from './rules.ts'
import { StreamReader } from './stream-reader.ts'

export interface Judgement {
  seen: Seen
  violations: Violation[]
}

const PER_SECOND = 40
const TICK_MS = 1_000
const PAGE = 1_000
/** The last retries and rates are over long before. */
const REST_MS_MAX = 120_000
/** The stream is complete when it has said nothing for so long. */
const SILENCE_MS = 2_000
const SILENCE_MS_MAX = 30_000

/** Runs two servers with workers and two workers on a store, breaks them for so long, and judges what users saw. */
export async function judge(store: StoreName, seed: number, seconds: number): Promise<Judgement> {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-judge-'))
  const random = new SeededRandom(seed)
  const started = await startStore(store, folder)
  const processes = await Promise.all(
    (['serve', 'serve', 'worker', 'worker'] as const).map((what) => JudgedProcess.create(what, started, folder)),
  )
  try {
    await Promise.all(processes.map((process) => process.start()))
    const caller = new Caller(processes.flatMap(({ url }) => url ?? []))
    const stream = new StreamReader(caller)
    await stream.start()
    const schedule = await addSchedule(caller)
    const load = new Load(caller, random.fork())
    const faults = new Faults(processes, started, random.fork())
    load.start(PER_SECOND)
    faults.start()
    await wait(seconds * 1_000)
    await faults.stop()
    await load.stop()
    await caller.callUntilAnswered('DELETE', `/schedules/${schedule.id}`)
    schedule.deletedAt = Date.now()
    const counts = await untilAtRest(caller)
    await untilSilent(stream)
    await stream.stop()
    const { submissions, changes, limits } = load
    const badAnswers = [...caller.badAnswers, ...faults.badExits]
    const { events, gaps } = stream
    const seen = { submissions, changes, limits, schedule, faults: faults.faults, events, gaps, counts, badAnswers }
    const all: Seen = { ...seen, units: started.units, runs: runsIn(folder), tasks: await listAll(caller) }
    return { seen: all, violations: judged(all) }
  } finally {
    await Promise.all(processes.map((process) => process.end('SIGKILL')))
    await started.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

async function addSchedule(caller: Caller): Promise<Schedule> {
  const createdAt = Date.now()
  const body = { id: 'judged', type: 'tick', every: TICK_MS / 1_000, catch_up: 'all' }
  await caller.callUntilAnswered('POST', '/schedules', body)
  return { id: body.id, everyMs: TICK_MS, createdAt, deletedAt: Number.POSITIVE_INFINITY }
}

/** Waits until no task waits or runs. @returns the counts by status */
async function untilAtRest(caller: Caller): Promise<Record<string, number>> {
  const until = Date.now() + REST_MS_MAX
  for (;;) {
    const { body } = await caller.callUntilAnswered('GET', '/stats')
    if ((body.pending_tasks === 0 && body.processing_tasks === 0) || Date.now() > until) {
      const statuses = ['pending', 'processing', 'success', 'failed', 'canceled', 'timeout']
      return Object.fromEntries(statuses.map((status) => [status, body[`${status}_tasks`]]))
    }
    await wait(200)
  }
}

/** A broken queue may change tasks for ever. */
async function untilSilent(stream: StreamReader): Promise<void> {
  const until = Date.now() + SILENCE_MS_MAX
  while (Date.now() - stream.lastAt < SILENCE_MS && Date.now() < until) await wait(100)
}

async function listAll(caller: Caller): Promise<TaskJson[]> {
  const tasks: TaskJson[] = []
  let cursor: string | null = null
  do {
    const more: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`
    const { status, body } = await caller.callUntilAnswered('GET', `/tasks?limit=${PAGE}${more}`)
    if (status !== 200) throw new Error(`the list answers ${status}: ${JSON.stringify(body)} for ${more}`)
    tasks.push(...body.tasks)
    cursor = body.next_cursor
  } while (cursor !== null)
  return tasks
}

/** A process that was killed may have left half a line. */
function runsIn(folder: string): Run[] {
  const files = readdirSync(folder).filter((name) => name.endsWith('.runs'))
  const lines = files.flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n'))
  return lines.filter((line) => line.endsWith('}')).map((line) => JSON.parse(line))
}
