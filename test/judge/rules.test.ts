import { expect, it } from 'vitest'
import type { Run, Seen, StreamEvent, Submission, TaskJson } from './record.ts'
import { judged, RULES } from './rules.ts'

const START = Date.parse('2030-01-01T00:00:00.000Z')
const time = (ms: number) => new Date(START + ms).toISOString()

/** A record without a fault: ten tasks that succeed one after the other, and a schedule with three ticks. */
function honest(): Seen {
  const types = ['plain', 'plain', 'narrow', 'narrow', 'grouped', 'grouped', 'rated', 'pool-one', 'pool-two', 'plain']
  const submissions = types.map((type, n): Submission => {
    const payload = { n, ms: 1, failures: 0 }
    const more = {
      ...(type === 'grouped' && { group: 'g' }),
      ...(n === 9 && { after: ['t0'] }),
      ...(n === 1 && { delay: 0.01 }),
    }
    return {
      n,
      body: { type, payload, tags: { n: String(n) }, max_retry: 1, ...more },
      sentAt: START,
      ids: [`t${n}`],
      refused: null,
    }
  })
  const tasks = types.map((type, n) => taskOf(`t${n}`, type, { n: String(n) }, null))
  const ticks = [1, 2, 3].map((n) => taskOf(`s${n}`, 'tick', {}, `schedule:s:${time(n * 1_000)}`))
  const all = [...tasks, ...ticks]
  const pending = all.map(({ id, type }) => eventOf(id, type, 'pending', 1))
  const ran = all.flatMap(({ id, type }, n) => [
    eventOf(id, type, 'processing', 100 + n * 10),
    eventOf(id, type, 'success', 105 + n * 10),
  ])
  const events = [...pending, ...ran].map((event, index) => ({ ...event, event_id: String(index) }))
  const runs = all.flatMap(({ id }, n): Run[] => [
    { what: 'began', id, attempt: 1, fence: 1, pid: 1, at: START + 101 + n * 10 },
    { what: 'ended', id, attempt: 1, fence: 1, pid: 1, at: START + 104 + n * 10 },
  ])
  const schedule = { id: 's', everyMs: 1_000, createdAt: START, deletedAt: START + 3_500 }
  const counts = { pending: 0, processing: 0, success: all.length, failed: 0, canceled: 0, timeout: 0 }
  const rest = {
    units: { 'pool-one': 1, 'pool-two': 2 },
    changes: [],
    limits: [],
    faults: [],
    gaps: [],
    badAnswers: [],
  }
  return { submissions, schedule, events, runs, tasks: all, counts, ...rest }
}

function taskOf(id: string, type: string, tags: Record<string, string>, key: string | null): TaskJson {
  const figures = { priority: 0, attempts: 1, deliveries: 1, max_retry: 1 }
  return {
    id,
    type,
    status: 'success',
    payload: null,
    ...figures,
    result: { fence: 1 },
    error: null,
    tags,
    idempotency_key: key,
  }
}

function eventOf(task_id: string, type: string, status: string, ms: number): StreamEvent {
  return { event_id: '', task_id, type, status, attempts: 0, timestamp: time(ms) }
}

const task = (seen: Seen, id: string) => seen.tasks.find((one) => one.id === id)!
const event = (seen: Seen, id: string, status: string) =>
  seen.events.find((one) => one.task_id === id && one.status === status)!

/** Moves an event to just behind another one. */
function move(seen: Seen, one: StreamEvent, behind: StreamEvent): void {
  seen.events.splice(seen.events.indexOf(one), 1)
  seen.events.splice(seen.events.indexOf(behind) + 1, 0, one)
  one.timestamp = behind.timestamp
}

/** Two tasks of a type run at once where one may. */
function overlapIn(seen: Seen, first: string, second: string): void {
  move(seen, event(seen, second, 'processing'), event(seen, first, 'processing'))
}

const FORGED: Readonly<Record<keyof typeof RULES, readonly ((seen: Seen) => void)[]>> = {
  lost: [(seen) => seen.submissions[0]!.ids.push('gone'), (seen) => seen.submissions[0]!.ids.push('t1')],
  unknown_task: [
    (seen) => (seen.submissions[4]!.refused = 400),
    (seen) => (task(seen, 't3').tags.n = '2'),
    (seen) => (task(seen, 't3').tags.n = '99'),
  ],
  listed: [
    (seen) => seen.tasks.push({ ...task(seen, 's1') }),
    (seen) => seen.tasks.splice(seen.tasks.indexOf(task(seen, 't5')), 1),
    (seen) => (seen.counts.success! += 1),
  ],
  not_ended: [(seen) => (task(seen, 't0').status = 'processing')],
  moves: [
    (seen) => seen.events.push({ ...event(seen, 't0', 'success'), event_id: 'x' }),
    (seen) => seen.events.push({ ...event(seen, 't0', 'pending'), event_id: 'x' }),
    (seen) => seen.events.splice(seen.events.indexOf(event(seen, 't4', 'success')), 1),
    (seen) => (event(seen, 't1', 'success').event_id = event(seen, 't0', 'success').event_id),
    (seen) => seen.gaps.push('7'),
  ],
  outcome: [
    (seen) => (task(seen, 't0').attempts = 2),
    (seen) => (task(seen, 't0').result = { fence: 2 }),
    (seen) => (seen.submissions[0]!.body.payload.failures = 2),
    (seen) => (seen.submissions[0]!.body.payload.hangs = true),
  ],
  canceled: [(seen) => seen.changes.push({ what: 'cancel', id: 't0', status: 200 })],
  limits: [
    (seen) => {
      seen.limits.push({ name: 'type:narrow', max: 1, sentAt: START, answeredAt: START + 10 })
      overlapIn(seen, 't2', 't3')
    },
  ],
  named_limit: [
    (seen) => {
      seen.limits.push({ name: 'pool', max: 2, sentAt: START, answeredAt: START + 10 })
      overlapIn(seen, 't7', 't8')
    },
  ],
  groups: [(seen) => overlapIn(seen, 't4', 't5')],
  rate: [
    (seen) => {
      for (let n = 0; n < 3; n++) seen.events.push({ ...eventOf(`r${n}`, 'rated', 'processing', n), event_id: `r${n}` })
    },
  ],
  early: [(seen) => (event(seen, 't1', 'processing').timestamp = time(1))],
  order: [(seen) => move(seen, event(seen, 't2', 'pending'), event(seen, 't3', 'pending'))],
  predecessors: [(seen) => move(seen, event(seen, 't9', 'processing'), event(seen, 't0', 'processing'))],
  ticks: [
    (seen) => seen.tasks.splice(seen.tasks.indexOf(task(seen, 's2')), 1),
    (seen) => seen.tasks.push({ ...task(seen, 's2'), id: 's4' }),
    (seen) => seen.tasks.splice(seen.tasks.indexOf(task(seen, 's1')), 3),
    (seen) => (seen.schedule.deletedAt = START + 2_500),
  ],
  fences: [
    (seen) => (task(seen, 't0').deliveries = 0),
    (seen) => seen.runs.push({ what: 'began', id: 't0', attempt: 2, fence: 1, pid: 2, at: START + 500 }),
  ],
  overlap: [
    (seen) => {
      task(seen, 't0').deliveries = 2
      seen.runs.push({ what: 'began', id: 't0', attempt: 1, fence: 2, pid: 2, at: START + 101 })
    },
  ],
  problems: [(seen) => seen.badAnswers.push('503 text/html')],
}

it('finds nothing in a record without a fault', () => {
  expect(judged(honest())).toEqual([])
})

it.each(Object.keys(RULES).flatMap((rule) => FORGED[rule]!.map((forge, index) => [rule, index + 1, forge] as const)))(
  'finds a record that breaks the rule %s (%i)',
  (rule, _, forge) => {
    const seen = honest()
    forge(seen)
    expect(judged(seen).map((violation) => violation.rule)).toContain(rule)
  },
)

it('allows what was in force while a limit changed, an explicit retry, and runs that overlap after a fault', () => {
  const seen = honest()
  seen.limits.push({ name: 'type:narrow', max: 1, sentAt: START + 121, answeredAt: START + 10_000 })
  overlapIn(seen, 't2', 't3')
  seen.changes.push({ what: 'cancel', id: 't0', status: 200 }, { what: 'retry', id: 't0', status: 200 })
  task(seen, 't1').deliveries = 2
  seen.runs.push({ what: 'began', id: 't1', attempt: 1, fence: 2, pid: 2, at: START + 112 })
  seen.faults.push({ what: 'freeze', pid: 1, from: START + 111, to: START + 5_000 })
  expect(judged(seen)).toEqual([])
})

it('allows that a waiting task that was canceled and retried starts after those that were accepted meanwhile', () => {
  const seen = honest()
  const isRest = ({ task_id, status }: StreamEvent) => task_id === 't2' && status !== 'pending'
  seen.changes.push({ what: 'cancel', id: 't2', status: 200 }, { what: 'retry', id: 't2', status: 200 })
  const rest = seen.events.filter(isRest)
  seen.events = seen.events.filter((one) => !isRest(one))
  const again = ['canceled', 'pending'].map((status) => ({ ...event(seen, 't2', 'pending'), status, event_id: status }))
  const before = seen.events.indexOf(event(seen, 't3', 'processing'))
  seen.events.splice(before, 0, ...again)
  seen.events.splice(seen.events.indexOf(event(seen, 't3', 'success')) + 1, 0, ...rest)
  expect(judged(seen).map(({ rule }) => rule)).toEqual([])
  seen.events = seen.events.filter((one) => !again.includes(one))
  expect(judged(seen).map(({ rule }) => rule)).toEqual(['order'])
})
