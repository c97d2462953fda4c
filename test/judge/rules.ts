import { DECLARED, type Run, type Seen, type StreamEvent, type Submission, type TaskJson, TICK_TYPE } from './record.ts'

export interface Violation {
  rule: string
  detail: string
}

const FINAL = new Set(['success', 'failed', 'canceled', 'timeout'])
/** A task with so many lost leases fails as poison. */
const LEASES_LOST_MAX = 5
/** Rounding of times to milliseconds. */
const ROUNDING_MS = 2

/** What the queue promises to its users, checked from outside. */
export const RULES: Readonly<Record<string, (seen: Seen) => Generator<string>>> = {
  lost,
  unknown_task,
  listed,
  not_ended,
  moves,
  outcome,
  canceled,
  limits,
  named_limit,
  groups,
  rate,
  early,
  order,
  predecessors,
  ticks,
  fences,
  overlap,
  problems,
}

export function judged(seen: Seen): Violation[] {
  return Object.entries(RULES).flatMap(([rule, find]) => [...find(seen)].map((detail) => ({ rule, detail })))
}

/** What was accepted exists, and one key has one task. */
function* lost({ submissions, tasks }: Seen) {
  const there = new Set(tasks.map(({ id }) => id))
  for (const { n, ids } of submissions) {
    if (new Set(ids).size > 1) yield `submission ${n} has several ids: ${[...new Set(ids)]}`
    for (const id of ids) if (!there.has(id)) yield `submission ${n}: ${id} was accepted and does not exist`
  }
}

/** Each task was submitted and not refused, and no submission has two. */
function* unknown_task({ submissions, tasks }: Seen) {
  const found = new Map<number, string>()
  for (const { id, type, tags } of tasks) {
    if (type === TICK_TYPE) continue
    const submission = submissions[Number(tags.n)]
    if (!submission) yield `${id} was never submitted`
    else if (submission.refused !== null) yield `${id} was refused with ${submission.refused}`
    else if (found.has(submission.n)) yield `submission ${submission.n} has ${found.get(submission.n)} and ${id}`
    found.set(Number(tags.n), id)
  }
}

/** Lists are complete and name each task once; statistics agree. */
function* listed({ tasks, events, counts }: Seen) {
  const ids = new Set(tasks.map(({ id }) => id))
  if (ids.size < tasks.length) yield `${tasks.length - ids.size} tasks are listed twice`
  for (const id of new Set(events.map(({ task_id }) => task_id)))
    if (!ids.has(id)) yield `${id} has events and is not listed`
  const found = Map.groupBy(tasks, ({ status }) => status)
  for (const [status, count] of Object.entries(counts)) {
    const listed = found.get(status)?.length ?? 0
    if (listed !== count) yield `${count} ${status} tasks are counted, and ${listed} are listed`
  }
}

function* not_ended({ tasks }: Seen) {
  for (const { id, status } of tasks) if (!FINAL.has(status)) yield `${id} is left ${status}`
}

/** Each task moves as documented, with one final status for each time it was submitted or retried. */
function* moves({ events, tasks, changes, gaps }: Seen) {
  for (const id of gaps) yield `the stream has a gap at ${id}`
  const retried = new Set(changes.flatMap(({ what, id, status }) => (what === 'retry' && status !== 409 ? [id] : [])))
  const states = new Map<string, string>()
  const positions = new Set<string>()
  for (const { event_id, task_id, status } of events) {
    if (positions.has(event_id)) yield `event ${event_id} came twice`
    positions.add(event_id)
    const before = states.get(task_id)
    states.set(task_id, status)
    if (before === undefined ? status === 'pending' : isMove(before, status, retried.has(task_id))) continue
    yield `${task_id}: ${before ?? 'nothing'} → ${status}`
  }
  for (const { id, status } of tasks) {
    if (states.get(id) !== status) yield `${id} is ${status}, and its last event says ${states.get(id)}`
  }
}

function isMove(from: string, to: string, isRetried: boolean): boolean {
  if (FINAL.has(from)) return isRetried && to === 'pending' && from !== 'success'
  return from === 'pending' ? to !== 'pending' : to !== 'processing'
}

/** Each task ends as its handler says, after as many attempts. */
function* outcome({ submissions, tasks, runs, changes }: Seen) {
  const ended = new Set(runs.flatMap(({ what, id, fence }) => (what === 'ended' ? [`${id} ${fence}`] : [])))
  const canceled = new Set(changes.flatMap(({ what, id }) => (what === 'cancel' ? [id] : [])))
  for (const task of tasks) {
    const { id, status, result, attempts } = task
    if (status === 'success' && !ended.has(`${id} ${result?.fence}`)) yield `${id}: no run has its result`
    const expected = expectedEnd(task, submissions)
    if (canceled.has(id) || !expected || isPoisoned(task)) continue
    if (`${status} ${attempts}` !== expected)
      yield `${id} is ${status} after ${attempts} attempts, expected ${expected}`
  }
}

/** Null where other tasks decide. */
function expectedEnd({ type, tags, max_retry }: TaskJson, submissions: readonly Submission[]): string | null {
  if (type === TICK_TYPE) return 'success 1'
  const submission = submissions[Number(tags.n)]
  if (!submission || submission.body.after) return null
  const { payload } = submission.body
  if (payload.hangs) return `timeout ${max_retry + 1}`
  return payload.failures > max_retry ? `failed ${max_retry + 1}` : `success ${payload.failures + 1}`
}

function isPoisoned({ status, attempts, deliveries }: TaskJson): boolean {
  return status === 'failed' && deliveries - attempts >= LEASES_LOST_MAX
}

/** A cancellation that was accepted ends the task, unless it was retried afterwards. */
function* canceled({ changes, tasks }: Seen) {
  const retried = new Set(changes.flatMap(({ what, id, status }) => (what === 'retry' && status !== 409 ? [id] : [])))
  const byId = new Map(tasks.map((task) => [task.id, task]))
  for (const { what, id, status } of changes) {
    const end = byId.get(id)?.status
    if (what === 'cancel' && (status === 200 || status === 202) && end !== 'canceled' && !retried.has(id)) {
      yield `${id} was canceled with ${status} and is ${end}`
    }
  }
}

/** The most tasks that may run when one starts, while limits change. */
function maxAt({ limits }: Seen, name: string, declared: number, at: number): number {
  const all = [
    { max: declared, sentAt: 0, answeredAt: 0 as number | null },
    ...limits.filter((one) => one.name === name),
  ]
  const isOver = ({ answeredAt }: { answeredAt: number | null }) =>
    answeredAt !== null &&
    all.some((later) => later.sentAt > answeredAt && later.answeredAt !== null && later.answeredAt < at - ROUNDING_MS)
  return Math.max(...all.filter((one) => one.sentAt <= at + ROUNDING_MS && !isOver(one)).map(({ max }) => max))
}

/** The units in use with each start, in the order of the stream. */
function* starts(events: readonly StreamEvent[], unitsOf: (event: StreamEvent) => number) {
  const running = new Map<string, number>()
  let used = 0
  for (const event of events) {
    const units = unitsOf(event)
    if (units === 0) continue
    const held = running.get(event.task_id) ?? 0
    const holds = event.status === 'processing' ? units : 0
    used += holds - held
    running.set(event.task_id, holds)
    if (holds > held) yield { event, used, at: Date.parse(event.timestamp) }
  }
}

function* limits(seen: Seen) {
  for (const { event, used, at } of starts(seen.events, ({ type }) => Number(type === 'narrow'))) {
    const max = maxAt(seen, 'type:narrow', DECLARED.narrow, at)
    if (used > max) yield `${used} tasks run with ${event.task_id} at ${event.timestamp}, and ${max} may`
  }
}

function* named_limit(seen: Seen) {
  for (const { event, used, at } of starts(seen.events, ({ type }) => seen.units[type] ?? 0)) {
    const max = maxAt(seen, 'pool', DECLARED.pool, at)
    if (used > max) yield `${used} units are held with ${event.task_id} at ${event.timestamp}, and ${max} may be`
  }
}

function* groups({ events, submissions }: Seen) {
  const groupOf = new Map(submissions.flatMap(({ ids, body }) => ids.map((id) => [id, body.group])))
  for (const group of new Set(groupOf.values())) {
    if (group === undefined) continue
    for (const { event, used } of starts(events, ({ task_id }) => Number(groupOf.get(task_id) === group))) {
      if (used > DECLARED.groupOfType) yield `${used} tasks of ${group} run with ${event.task_id}`
    }
  }
}

function* rate({ events }: Seen) {
  const { max, perMs } = DECLARED.rate
  const times = [...starts(events, ({ type }) => Number(type === 'rated'))].map(({ at }) => at)
  for (let index = max; index < times.length; index++) {
    const within = times[index]! - times[index - max]!
    if (within < perMs)
      yield `${max + 1} starts within ${within} ms, the last one at ${new Date(times[index]!).toISOString()}`
  }
}

/**
 * No task starts before its delay is over, by the clock of the store. A delayed task that was canceled and retried runs
 * at once.
 */
function* early({ events, submissions }: Seen) {
  const delays = new Map(submissions.flatMap(({ ids, body }) => ids.map((id) => [id, (body.delay ?? 0) * 1_000])))
  const accepted = new Map<string, number>()
  for (const { task_id: id, status, timestamp } of events) {
    const at = Date.parse(timestamp)
    if (status === 'pending' && !accepted.has(id)) accepted.set(id, at)
    if (status === 'canceled') delays.delete(id)
    const delay = delays.get(id)
    if (status !== 'processing' || delay === undefined) continue
    delays.delete(id)
    const afterMs = at - accepted.get(id)!
    if (afterMs < delay - ROUNDING_MS)
      yield `${id} started ${afterMs} ms after its acceptance, with a delay of ${delay} ms`
  }
}

function firstStarts(events: readonly StreamEvent[]): StreamEvent[] {
  const found = new Map<string, StreamEvent>()
  for (const event of events)
    if (event.status === 'processing' && !found.has(event.task_id)) found.set(event.task_id, event)
  return [...found.values()]
}

/**
 * Tasks of one type and priority that are ready at once start in the order in which they were accepted. A waiting task
 * that was canceled and retried was accepted again.
 */
function* order({ events, submissions }: Seen) {
  const bodies = new Map(submissions.flatMap(({ ids, body }) => ids.map((id) => [id, body])))
  const places = new Map<string, number>()
  const started = new Set<string>()
  for (const [index, { task_id, status }] of events.entries()) {
    if (status === 'pending' && !started.has(task_id)) places.set(task_id, index)
    if (status === 'processing') started.add(task_id)
  }
  const latest = new Map<string, { id: string; place: number }>()
  for (const { task_id: id, type } of firstStarts(events)) {
    const body = bodies.get(id)
    if (!body || body.delay || body.after || !(type === 'plain' || type === 'narrow')) continue
    const line = `${type} ${body.priority ?? 0}`
    const place = places.get(id) ?? 0
    const before = latest.get(line)
    if (before && before.place > place) yield `${id} started after ${before.id}, which was accepted later (${line})`
    else latest.set(line, { id, place })
  }
}

/** A task starts after all tasks that it waits for have succeeded. In a cluster, only their times tell the order. */
function* predecessors({ events, submissions }: Seen) {
  const afterOf = new Map(submissions.flatMap(({ ids, body }) => ids.map((id) => [id, body.after ?? []])))
  const succeededAt = new Map(
    events.flatMap(({ task_id, status, timestamp }) =>
      status === 'success' ? [[task_id, Date.parse(timestamp)]] : [],
    ),
  )
  for (const { task_id, timestamp } of firstStarts(events)) {
    const at = Date.parse(timestamp) + ROUNDING_MS
    const missing = (afterOf.get(task_id) ?? []).filter((id) => !((succeededAt.get(id) ?? Infinity) <= at))
    if (missing.length > 0) yield `${task_id} started before ${missing} succeeded`
  }
}

/** Each tick of the schedule has one task. */
function* ticks({ tasks, schedule: { id, everyMs, createdAt, deletedAt } }: Seen) {
  const start = `schedule:${id}:`
  const times = tasks
    .flatMap(({ idempotency_key: key }) => (key?.startsWith(start) ? [Date.parse(key.slice(start.length))] : []))
    .toSorted((a, b) => a - b)
  const [first = Number.POSITIVE_INFINITY, last = 0] = [times[0], times.at(-1)]
  if (first > createdAt + 2 * everyMs) yield `the first tick is at ${first}, and the schedule of ${createdAt}`
  if (last > deletedAt) yield `a tick at ${last} after the removal of the schedule at ${deletedAt}`
  for (const [index, time] of times.entries()) {
    const apart = index === 0 ? everyMs : time - times[index - 1]!
    if (apart !== everyMs) yield `${apart} ms between two ticks, the second at ${new Date(time).toISOString()}`
  }
}

/** Each run of a task has a fence of its own, and there are no more runs than deliveries. */
function* fences({ runs, tasks }: Seen) {
  const began = Map.groupBy(
    runs.filter(({ what }) => what === 'began'),
    ({ id }) => id,
  )
  for (const { id, deliveries } of tasks) {
    const found = began.get(id)?.map(({ fence }) => fence) ?? []
    if (new Set(found).size < found.length) yield `${id}: two runs have the same fence: ${found}`
    if (found.length > deliveries) yield `${id} ran ${found.length} times, with ${deliveries} deliveries`
  }
}

/** Two runs of a task overlap only if something broke after the first one began. */
function* overlap({ runs, faults, tasks, changes }: Seen) {
  // The queue ends these before their handlers have stopped.
  const stopped = new Set([
    ...tasks.flatMap(({ id, payload }) => (payload?.hangs ? [id] : [])),
    ...changes.flatMap(({ what, id }) => (what === 'cancel' ? [id] : [])),
  ])
  for (const [id, lines] of Map.groupBy(runs, (run) => run.id)) {
    if (stopped.has(id)) continue
    const byFence = [...Map.groupBy(lines, ({ fence }) => fence).values()].map(([began, end]) => ({
      began: began!,
      end,
    }))
    const ordered = byFence.toSorted((a, b) => a.began.fence - b.began.fence)
    for (const [index, { began }] of ordered.entries()) {
      const before = ordered[index - 1]
      if (!before || isOver(before.end, began.at) || before.began.attempt < began.attempt) continue
      if (faults.some(({ from, to }) => from <= began.at && to >= before.began.at)) continue
      yield `${id}: run ${began.fence} began while run ${before.began.fence} had not ended`
    }
  }
}

function isOver(end: Run | undefined, at: number): boolean {
  return end !== undefined && end.at <= at + ROUNDING_MS
}

function* problems({ badAnswers }: Seen) {
  yield* badAnswers
}
