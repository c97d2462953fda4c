import { expect, it } from 'vitest'
import { hideContents } from '../../src/task/contents.ts'
import { eventJson, type TaskEvent } from '../../src/task/event.ts'
import {
  acceptedTask,
  completeSpec,
  isSameRequest,
  sameRequest,
  specOfTask,
  type TaskSpec,
} from '../../src/task/task.ts'
import { isoTime, taskJson, taskOfJson } from '../../src/task/task-json.ts'
import { viewOf, viewOfJson } from '../../src/task/task-view.ts'

const SPEC = completeSpec({
  type: 't',
  payload: { a: 1 },
  tags: { k: 'v' },
  group: 'g',
  batch: 'b',
  uses: { gpu: 1 },
  queueTimeoutMs: 1_500,
  processTimeoutMs: 2_500,
  idempotencyKey: 'key',
  onFailure: 'run',
})
const ACCEPTED = acceptedTask(SPEC, 'id', 1_000, ['before'])
const ENDED = {
  ...ACCEPTED,
  status: 'failed' as const,
  startedAt: 2_000,
  completedAt: 3_000,
  workerId: 'w',
  progress: { step: 1 },
  result: { b: 2 },
  error: 'no',
}
const EVENT: TaskEvent = {
  id: '7-0',
  kind: 'status',
  taskId: 'id',
  type: 't',
  status: 'timeout',
  attempts: 2,
  progress: { step: 1 },
  result: [1],
  error: 'no "text"',
  timeoutReason: 'processing',
  workerId: 'w',
  at: 4_000,
}

it('hides the contents of a task, an event and a schedule, and leaves figures', () => {
  const contents = { payload: null, result: null, error: null, progress: null }
  expect(hideContents(ENDED)).toEqual({ ...ENDED, ...contents })
  expect(hideContents({ ...ENDED, progress: 50 }).progress).toBe(50)
  expect(hideContents(EVENT)).toEqual({ ...EVENT, result: null, error: null, progress: null })
  const log = { message: 'm', fields: { a: 1 } }
  expect(hideContents({ ...ENDED, log } as never)).toMatchObject({ log: { message: null, fields: null } })
  expect(Object.keys(hideContents(SPEC)).sort()).toEqual(Object.keys(SPEC).sort())
})

it('writes an event as JSON', () => {
  const json = {
    event_id: '7-0',
    task_id: 'id',
    type: 't',
    status: 'timeout',
    attempts: 2,
    progress: { step: 1 },
    result: [1],
    error: 'no "text"',
    timeout_reason: 'processing',
    worker_id: 'w',
    timestamp: '1970-01-01T00:00:04.000Z',
  }
  const empty = { progress: null, result: null, error: null, timeout_reason: null, worker_id: null }
  const bare = { progress: null, result: null, error: null, timeoutReason: null, workerId: null }
  expect(eventJson(EVENT)).toBe(JSON.stringify(json))
  const later = { ...json, ...empty, event_id: null, timestamp: '1970-01-01T00:00:04.001Z' }
  expect(eventJson({ ...EVENT, ...bare, id: '', at: 4_001 })).toBe(JSON.stringify(later))
  expect(eventJson({ ...EVENT, at: 0 })).toContain('"timestamp":"1970-01-01T00:00:00.000Z"')
})

it('reads a task from its JSON, also from that of versions without some fields', () => {
  for (const task of [ACCEPTED, ENDED]) {
    const json = taskJson(task)
    expect(taskOfJson(json)).toEqual(task)
    expect(viewOfJson(json)).toEqual(viewOf(task))
    const { uses, after, on_failure, batch, ...old } = json
    expect(taskOfJson(old as never)).toEqual({ ...task, uses: {}, after: [], onFailure: 'cancel', batch: null })
  }
  expect([isoTime(null), isoTime(0), isoTime(1), isoTime(0)]).toEqual([
    null,
    '1970-01-01T00:00:00.000Z',
    '1970-01-01T00:00:00.001Z',
    '1970-01-01T00:00:00.000Z',
  ])
})

it('writes times as Date does', () => {
  const day = Date.UTC(2_024, 1, 29)
  const times = [-1, 999, day - 1, day, day + 86_399_999, day + 86_400_000, Date.UTC(10_000, 0, 1), 12_345_678_901.5]
  for (let ms = 0; ms < 86_400_000; ms += 999_983) times.push(day + ms)
  expect(times.map((ms) => isoTime(ms))).toEqual(times.map((ms) => new Date(ms).toISOString()))
})

it('shows a handler its task with dates and seconds', () => {
  expect(viewOf(ENDED, 'parsed')).toMatchObject({
    payload: 'parsed',
    queueTimeout: 1.5,
    processTimeout: 2.5,
    createdAt: new Date(1_000),
    startedAt: new Date(2_000),
    completedAt: new Date(3_000),
  })
  expect(viewOf(ACCEPTED)).toMatchObject({ payload: { a: 1 }, startedAt: null, completedAt: null })
})

it('accepts a task from its time on, and makes the request of a task again', () => {
  const runAt = (spec: Partial<TaskSpec>) => acceptedTask(completeSpec({ type: 't', ...spec }), 'id', 1_000).runAt
  expect([runAt({}), runAt({ delayMs: 5 }), runAt({ runAt: 999 }), runAt({ runAt: 2_000, delayMs: 5 })]).toEqual([
    1_000,
    1_000 + 5,
    1_000,
    2_000,
  ])
  expect(specOfTask(ENDED, 1_000)).toEqual({ ...SPEC, after: ['before'], runAt: null })
  expect(specOfTask(ENDED, 999)).toMatchObject({ runAt: 1_000, delayMs: 0 })
})

it('compares requests without defaults, and with those that earlier versions stored', () => {
  const byDefault = ['maxRetry', 'queueTimeoutMs', 'processTimeoutMs', 'uses'] as const
  const asked = completeSpec({ type: 't', payload: 1, byDefault })
  const stored = sameRequest(asked)
  expect(JSON.parse(stored)).toEqual({ type: 't', payload: 1, priority: 0, delayMs: 0, runAt: null, tags: {} })
  expect(isSameRequest(stored, { ...asked, maxRetry: 9 })).toBe(true)
  expect(isSameRequest(stored, { ...asked, payload: 2 })).toBe(false)
  expect(isSameRequest(stored, completeSpec({ type: 't', payload: 1 }))).toBe(false)
  // Earlier versions stored the defaults, and no uses.
  const { byDefault: _, ...all } = asked
  const before = sameRequest(all)
  expect(JSON.parse(before)).toMatchObject({ maxRetry: 3, queueTimeoutMs: 600_000 })
  expect(isSameRequest(before, asked)).toBe(true)
  expect(isSameRequest(before, { ...asked, maxRetry: 9, byDefault: ['queueTimeoutMs', 'processTimeoutMs'] })).toBe(
    false,
  )
  expect(isSameRequest(before, { ...asked, maxRetry: 3, byDefault: ['queueTimeoutMs', 'processTimeoutMs'] })).toBe(true)
  // The group, the uses and the predecessors count, the batch and the key do not.
  const other = (more: Partial<TaskSpec>) => isSameRequest(stored, { ...asked, ...more })
  expect([other({ batch: 'b' }), other({ idempotencyKey: 'k' }), other({ onFailure: 'run' })]).toEqual([
    true,
    true,
    true,
  ])
  const uses = { uses: { gpu: 1 }, byDefault: byDefault.slice(0, 3) }
  expect([other({ group: 'g' }), other(uses), other({ after: ['a'] })]).toEqual([false, false, false])
  const waiting = sameRequest({ ...asked, after: ['a'] })
  expect(isSameRequest(waiting, { ...asked, after: ['a'], onFailure: 'run' })).toBe(false)
})
