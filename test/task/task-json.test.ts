import { describe, expect, it } from 'vitest'
import type { Json } from '../../src/task/json.ts'
import { keepPayloadText, payloadTextOf } from '../../src/task/payload-text.ts'
import { acceptedTask, completeSpec, type Task } from '../../src/task/task.ts'
import { taskJson, taskText } from '../../src/task/task-json.ts'

const taskWith = (payload: Json): Task =>
  acceptedTask(completeSpec({ type: 'a', payload, tags: { '"payload":': '"payload":1' } }), 'id "payload":0', 1, [])
const LONG = { text: '"payload":0,\n\\"é'.repeat(100), payload: [0, null, { payload: 0 }] }

describe('taskText', () => {
  it.each<Json>([null, 'x'.repeat(2_000), LONG, [LONG, LONG]])('is the JSON of the task (%j)', (payload) => {
    const task = taskWith(payload)
    expect(JSON.parse(taskText(task))).toEqual(taskJson(task))
    keepPayloadText(task, JSON.stringify(payload))
    expect(taskText(task)).toBe(JSON.stringify(taskJson(task)))
  })

  it('has each field of the task as JSON', () => {
    const texts = {
      id: 'a"b',
      type: 'a\\b',
      workerId: '\n',
      error: '"',
      idempotencyKey: '\u{1f600}',
      group: 'é',
      batch: '\0',
    }
    const times = { createdAt: 1, runAt: 86_400_000, startedAt: 2, updatedAt: 3, completedAt: 4 }
    const ended = {
      status: 'timeout',
      timeoutReason: 'processing',
      attempts: 2,
      deliveries: 3,
      priority: 9,
      maxRetry: 4,
    }
    const parts = { progress: { a: [0.5] }, result: [1, 'x'], tags: { k: '"' }, uses: { gpu: 2 }, after: ['a', 'b"'] }
    const durations = { queueTimeoutMs: 1_500, processTimeoutMs: 1 }
    const task = { ...taskWith(null), ...texts, ...times, ...ended, ...parts, ...durations, onFailure: 'run' } as Task
    expect(taskText(task)).toBe(JSON.stringify(taskJson(task)))
  })

  it('does not show the kept text of a payload that was replaced', () => {
    const task = taskWith(LONG)
    keepPayloadText(task, JSON.stringify(LONG))
    expect(payloadTextOf(task)).toBe(JSON.stringify(LONG))
    expect(payloadTextOf({ ...task, payload: 'hidden' })).toBeNull()
    task.payload = 'hidden'
    expect(taskText(task)).toBe(JSON.stringify(taskJson(task)))
  })
})
