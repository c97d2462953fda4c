import { expect, it } from 'vitest'
import type { Changed, ListQuery } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { openTestQueue } from '../fixtures/server.ts'

/** More than a page examines. */
const TASKS = 110_000
const DAY_MS = 86_400_000

it('examines a bounded number of tasks for a page in each order, and misses none over the pages', async () => {
  let now = Date.UTC(2030, 0, 1)
  const queue = await openTestQueue('sqlite::memory:', { clock: () => now })
  for (const type of ['t', 'u']) await queue.configureType(type, { declared: true })
  const marked: string[] = []
  const submit = async (count: number, delayMs = 0) => {
    const specs = Array.from({ length: count }, (_, n) => {
      const tags = n % 15_000 === 14_999 ? { mark: 'yes' } : {}
      return completeSpec({ type: n % 2 === 0 ? 't' : 'u', tags, delayMs, priority: n % 3 })
    })
    for (let from = 0; from < count; from += 1_000) {
      const submitted = await queue.submit(specs.slice(from, from + 1_000))
      marked.push(...submitted.flatMap(({ task }) => (task.tags.mark ? [task.id] : [])))
      now += 10
    }
  }
  const first = now
  await submit(TASKS / 2)
  const middle = now
  await submit(TASKS / 2, DAY_MS)
  const read = async (query: Partial<ListQuery>) => {
    const ids: string[] = []
    let [pages, cursor] = [0, undefined as string | null | undefined]
    do {
      const page = await queue.list({ limit: 1_000, ...query, ...(cursor ? { cursor } : {}) })
      ids.push(...page.tasks.map(({ id }) => id))
      cursor = page.nextCursor
      pages += 1
    } while (cursor)
    return { ids, pages }
  }
  const tag = { key: 'mark', value: 'yes' }
  expect(marked).toHaveLength(6)
  const pending = await read({ status: 'pending', tag })
  expect(pending.ids.toSorted()).toEqual(marked.toSorted())
  expect(pending.pages).toBeGreaterThan(2)
  const unfiltered = await read({ status: 'pending', limit: 1_000 })
  expect(unfiltered.ids.filter((id) => marked.includes(id))).toEqual(pending.ids)
  const newest = await read({ tag })
  expect([newest.ids, newest.pages]).toEqual([marked.toReversed(), 3])
  expect((await read({ tag, error: 'x' })).ids).toEqual([])
  // Of a time with few tasks, one page examines all; of a long one, the walk begins and ends with its tasks.
  const early = { createdAfter: first, createdBefore: first + 150 }
  expect(await read({ ...early, tag })).toEqual({ ids: marked.slice(0, 1), pages: 1 })
  expect(await read({ ...early, tag, status: 'pending' })).toEqual({ ids: marked.slice(0, 1), pages: 1 })
  const half = { createdBefore: middle }
  expect(await read({ ...half, tag })).toEqual({ ids: marked.slice(0, 3).reverse(), pages: 2 })
  for (let next: Changed['next'] | undefined; next !== null; ) {
    next = (await queue.cancel({ filter: { type: 't' }, ...(next && { before: next }) })).next
  }
  for (let next: Changed['next'] | undefined; next !== null; ) {
    next = (await queue.cancel({ filter: {}, ...(next && { before: next }) })).next
  }
  const canceled = await read({ status: 'canceled', tag })
  expect([canceled.ids, canceled.pages]).toEqual([marked.toReversed(), 3])
  await queue.close()
}, 120_000)

it('lists by time also after the clock was set back', async () => {
  let now = Date.UTC(2030, 0, 1)
  const queue = await openTestQueue('sqlite::memory:', { clock: () => now })
  await queue.configureType('t', { declared: true })
  const submit = async () => (await queue.submit([completeSpec({ type: 't' })]))[0]!.task
  const tasks = [await submit()]
  for (const ms of [10_000, -DAY_MS, 5_000, DAY_MS]) {
    now += ms
    tasks.push(await submit())
  }
  const listed = async (createdAfter: number, createdBefore: number) => {
    const page = await queue.list({ limit: 10, createdAfter, createdBefore })
    return page.tasks.map(({ id }) => tasks.findIndex((task) => task.id === id))
  }
  const start = Date.UTC(2030, 0, 1)
  expect(await listed(start, start + DAY_MS)).toEqual([4, 1, 0])
  expect(await listed(start - DAY_MS, start)).toEqual([3, 2])
  expect(await listed(0, start - DAY_MS)).toEqual([])
  await queue.close()
})
