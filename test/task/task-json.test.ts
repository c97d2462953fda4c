import { describe, expect, it } from 'vitest'
import type { Json } from '../../src/task/json.ts'
import { acceptedTask, completeSpec, type Task } from '../../src/task/task.ts'
import { taskJson, taskText } from '../../src/task/task-json.ts'
import { setStored, unreadText } from '../../src/task/unread.ts'

const newTask = (): Task =>
  acceptedTask(completeSpec({ type: 'a', tags: { '"payload":': '"payload":1' } }), 'id "payload":0', 1, [])
const LONG = { text: '"payload":0,\n\\"é'.repeat(100), result: [0, null, { payload: 0 }] }

describe('taskText', () => {
  it.each<Json>([null, 'x'.repeat(2_000), LONG, [LONG, LONG]])('is the JSON of the task (%j)', (value) => {
    const [task, read] = [newTask(), newTask()]
    for (const field of ['payload', 'result'] as const) {
      read[field] = value
      setStored(task, field, JSON.stringify(value))
      expect(taskText(task)).toBe(JSON.stringify({ ...taskJson(newTask()), ...taskJson({ ...newTask(), ...task }) }))
    }
    expect(taskText(task)).toBe(JSON.stringify(taskJson(read)))
    expect(task).toEqual(read)
    expect(taskText(task)).toBe(JSON.stringify(taskJson(read)))
  })

  it('does not read long fields that are not used', () => {
    const task = newTask()
    setStored(task, 'payload', `[1,${' '.repeat(2_000)}2]`)
    expect(taskText(task)).toContain(`"payload":[1,${' '.repeat(2_000)}2],`)
    expect(task.payload).toEqual([1, 2])
    expect(taskText(task)).toContain('"payload":[1,2],')
  })

  it('does not show the text of a field that was replaced', () => {
    const task = newTask()
    setStored(task, 'payload', JSON.stringify(LONG))
    expect(unreadText({ ...task, payload: 'hidden' }, 'payload')).toBeNull()
    task.payload = 'hidden'
    expect(unreadText(task, 'payload')).toBeNull()
    expect(taskText(task)).toBe(JSON.stringify(taskJson(task)))
  })
})
