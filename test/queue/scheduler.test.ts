import { afterEach, beforeEach, expect, it } from 'vitest'
import { createQueue } from '../../src/queue/create-queue.ts'
import { readNamed } from '../../src/queue/event-reader.ts'
import type { Queue } from '../../src/queue/queue.ts'
import type { Accompanied, DocumentsStep } from '../../src/store/documents.ts'
import { openStore } from '../../src/store/open.ts'
import type { Store } from '../../src/store/store.ts'
import { XQueueError } from '../../src/task/errors.ts'
import type { ScheduleSpec } from '../../src/task/schedule.ts'
import { completeSpec } from '../../src/task/task.ts'

const MINUTE = 60_000

let now: number
let store: Store
let queue: Queue
beforeEach(async () => {
  now = 1_700_000_040_000
  store = await openStore('sqlite::memory:', { clock: () => now }, readNamed)
  queue = createQueue(store)
  await queue.configureType('t', { declared: true })
})
afterEach(() => queue.close())

function spec(id: string): ScheduleSpec {
  const { delayMs: _, runAt: __, idempotencyKey: ___, ...task } = completeSpec({ type: 't', payload: id })
  return { id, task, timing: { everyMs: MINUTE }, catchUp: 'one', overlap: 'allow', paused: false }
}
const made = async () => (await queue.list({ status: 'pending', limit: 9 })).tasks.map(({ payload }) => payload).sort()

it('handles the ticks of other schedules while one is refused, and retries that one after a minute', async () => {
  let isRefused = true
  const submitWith = store.submitWith.bind(store)
  store.submitWith = async (accompanied: Accompanied) => {
    if (isRefused && accompanied.change.id === 'bad') throw new XQueueError('invalid_request', 'cannot be stored')
    return submitWith(accompanied)
  }
  for (const id of ['bad', 'good', 'well']) await queue.schedules({ add: spec(id) })
  now += MINUTE
  await expect(queue.sweep(10)).rejects.toThrow('cannot be stored')
  expect(await made()).toEqual(['good', 'well'])
  now += MINUTE - 1
  expect(await queue.sweep(10)).toMatchObject({ changed: 0, nextAt: now + 1 })
  now += 1
  isRefused = false
  await queue.sweep(10)
  expect(await made()).toEqual(['bad', 'good', 'good', 'well', 'well'])
})

it('retries a refused schedule at once when schedules have changed', async () => {
  const submitWith = store.submitWith
  store.submitWith = async () => Promise.reject(new XQueueError('invalid_request', 'cannot be stored'))
  await queue.schedules({ add: spec('a') })
  now += MINUTE
  await expect(queue.sweep(10)).rejects.toThrow('cannot be stored')
  store.submitWith = submitWith.bind(store)
  await queue.schedules({ alter: 'a', to: { task: { type: 't', payload: 'mended' } } })
  await queue.sweep(10)
  expect(await made()).toEqual(['mended'])
})

it('confirms an existing schedule, because its first process may have ended before it was durable', async () => {
  await queue.schedules({ add: spec('a') })
  const steps: DocumentsStep[] = []
  const documents = store.documents.bind(store)
  store.documents = (step: DocumentsStep) => {
    steps.push(step)
    return documents(step)
  }
  const [schedule] = await queue.schedules({ add: spec('a') })
  const changes = steps.flatMap((step) => step.changes ?? [])
  expect(changes).toMatchObject([{ kind: 'schedule', id: 'a', if: { text: expect.stringContaining('"id":"a"') } }])
  expect(changes[0]!.to).toBeUndefined()
  expect(await queue.schedules()).toEqual([schedule])
})

it('confirms the removal of a schedule whose first answer was lost', async () => {
  await queue.schedules({ add: spec('a') })
  const documents = store.documents.bind(store)
  store.documents = async (step: DocumentsStep) => {
    // The store has carried it out, and a new connection repeats it.
    if (step.changes) await documents(step)
    return documents(step)
  }
  expect(await queue.schedules({ drop: 'a' })).toEqual([])
  await expect(queue.schedules({ drop: 'a' })).rejects.toMatchObject({ code: 'not_found' })
})

it('says that more is due after as many ticks as one step handles', async () => {
  for (const id of ['a', 'b', 'c']) await queue.schedules({ add: spec(id) })
  now += MINUTE
  expect(await queue.sweep(3)).toMatchObject({ changed: 3, more: true })
  expect(await queue.sweep(3)).toMatchObject({ changed: 0, more: false })
})
