import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { beforeAll, beforeEach, expect, it, vi } from 'vitest'
import { Browser, faultsOf, goOn, has } from '../fixtures/chromium.ts'
import { type Server, startServer } from '../fixtures/server.ts'

/** For people to view, as those of dashboard.test.ts. */
const screenshots = process.env.TEST_SCREENSHOTS

let server: Server
let browser: Browser
let page: Page

beforeAll(async () => {
  server = await startServer({ engine: 'sqlite::memory:' })
  browser = await Browser.start()
  if (screenshots) mkdirSync(screenshots, { recursive: true })
  // Types without handlers, which the test claims itself: each task ends when the test settles it.
  await server.call('POST', '/tasks/consume', { types: ['fetch', 'join', 'report'] })
})
beforeEach(async () => {
  await page?.close()
  browser.complaints.length = 0
  page = await browser.open(`${server.url}/`)
  await has(page.getByRole('status').first(), 'live')
})

const go = (view: string): Promise<void> => goOn(page, view)

interface Step {
  type: string
  after?: (number | string)[]
  on_failure?: string
  batch?: string
}

async function submit(...tasks: Step[]): Promise<string[]> {
  const answer = await server.call('POST', '/tasks/batch', { tasks })
  expect(answer).toMatchObject({ status: 201 })
  return answer.body.tasks.map(({ id }: { id: string }) => id)
}

/** Two fetches, a join of both, and a report. */
const FLOW: Step[] = [
  { type: 'fetch' },
  { type: 'fetch' },
  { type: 'join', after: [0, 1] },
  { type: 'report', after: [2] },
]
const flow = (batch: string) => submit(...FLOW.map((step) => ({ ...step, batch })))

/** Takes one task of a type, which has to be ready. */
async function take(type: string): Promise<{ lease: string; id: string }> {
  const { body } = await server.call('POST', '/tasks/consume', { types: [type], wait: 20 })
  return { lease: body.leases[0].lease, id: body.leases[0].task.id }
}
const complete = ({ lease }: { lease: string }) => server.call('POST', `/leases/${lease}/complete`, { result: 1 })
const fail = ({ lease }: { lease: string }) =>
  server.call('POST', `/leases/${lease}/fail`, { error: 'no such page', retry: false })

const main = () => page.locator('main')
const drawing = () => page.getByRole('group', { name: 'Flow' })
const node = (id: string) => drawing().locator(`a[href="#/tasks/${id}"]`)
const lines = (status: string) => drawing().locator(`svg .${status}`)

it('draws a flow from left to right, with the status of each task', async () => {
  const ids = await flow('diamond')
  const [first, second, join, report] = ids as [string, string, string, string]
  await go('overview')
  await has(page.locator('.total.pending'), '2 waiting for tasks')
  await go(`tasks/${report}`)
  await has(main(), 'Waiting for one task:')
  await page.evaluate('globalThis.isStillHere = true')
  for (const id of ids) await has(node(id), 'pending')
  expect(await node(report).getAttribute('aria-current')).toBe('true')
  expect(await node(join).getAttribute('aria-current')).toBeNull()
  const [a, b, c, d] = await Promise.all(ids.map(async (id) => (await node(id).boundingBox())!))
  expect(a!.x).toBe(b!.x)
  expect(a!.x + a!.width).toBeLessThan(c!.x)
  expect(c!.x + c!.width).toBeLessThan(d!.x)
  expect(await lines('pending').count()).toBe(3)
  const taken = [await take('fetch'), await take('fetch')]
  await has(node(first), 'processing')
  await has(node(second), 'processing')
  await complete(taken[0]!)
  await has(node(taken[0]!.id), 'success')
  await has(node(join), 'pending')
  await complete(taken[1]!)
  await complete(await take('join'))
  await has(node(join), 'success')
  await complete(await take('report'))
  await has(page.getByRole('heading', { level: 1 }), 'success')
  for (const id of ids) await has(node(id), 'success')
  expect(await lines('success').count()).toBe(3)
  expect(await page.evaluate('globalThis.isStillHere')).toBe(true)
  await node(first).focus()
  await page.keyboard.press('Enter')
  await has(page.locator('.id'), first)
  await has(page.locator('.facts'), 'diamond')
  expect(browser.complaints).toEqual([])
})

it('shows on the page of a task the tasks that wait for it, also outside of a batch', async () => {
  const [first] = await submit({ type: 'report' })
  const [waiting] = await submit({ type: 'report', after: [first!] })
  await go(`tasks/${first}`)
  await has(page.locator('.fact', { hasText: 'Waited for by' }), waiting!)
  await page.locator('.fact a', { hasText: waiting! }).click()
  await has(page.locator('.why'), 'Waiting for one task:')
  await server.call('DELETE', `/tasks/${first}`)
  expect(browser.complaints).toEqual([])
})

it('shows in a batch that a failed task cancels its successors, and retries all of them', async () => {
  const [, , join, report] = (await flow('nightly')) as [string, string, string, string]
  await go('batch/nightly')
  await has(main(), '0 of 4 have ended')
  const failing = await take('fetch')
  await has(node(failing.id), 'processing')
  await fail(failing)
  await has(node(failing.id), 'failed')
  await has(node(join), 'canceled')
  await has(node(report), 'canceled')
  await complete(await take('fetch'))
  await has(main(), '4 of 4 have ended')
  for (const [status, count] of Object.entries({ success: 1, failed: 1, canceled: 2 })) {
    await has(page.locator(`.total.${status} strong`), String(count))
  }
  expect(await page.getByRole('button').filter({ hasText: 'Cancel unfinished tasks' }).count()).toBe(0)
  const list = page.getByRole('table', { name: 'Tasks' })
  await has(list, /canceled[\s\S]*no such page|no such page[\s\S]*canceled/)
  await page.getByRole('button', { name: 'Run 3 again' }).click()
  await has(node(report), 'pending')
  expect((await take('fetch').then(complete)).status).toBe(200)
  await complete(await take('join'))
  await complete(await take('report'))
  await has(node(report), 'success')
  await has(page.locator('.terms'), '100 %')
  expect(await page.getByRole('meter').first().getAttribute('aria-valuenow')).toBe('100')
  await has(page.locator('.total.success strong'), '4')
  expect(browser.complaints).toEqual([])
})

it('cancels the unfinished tasks of a batch, which the list of tasks links to', async () => {
  await flow('given-up')
  await submit({ type: 'report', batch: 'another' })
  await go('tasks')
  await page.getByLabel('Search').fill('batch:given-up')
  await page.getByRole('button', { name: 'Search' }).click()
  await has(page.locator('.count').last(), '4 tasks')
  await page.getByRole('link', { name: 'given-up' }).click()
  await page.getByRole('button', { name: 'Cancel unfinished tasks' }).click()
  const question = page.getByRole('dialog', { name: 'Cancel 4 tasks?' })
  await question.getByRole('button', { name: 'Cancel unfinished tasks' }).click()
  await has(page.locator('.total.canceled strong'), '4')
  await page.locator('.total.canceled').click()
  await vi.waitFor(() => expect(page.url()).toMatch(/#\/tasks\?batch=given-up&status=canceled$/))
  await has(page.locator('.count').last(), '4 tasks')
  await go('batch/never-was')
  await has(main(), 'Batch not found')
})

it('shows the predecessors of a task without a batch, and their predecessors', async () => {
  const [first, second, join] = (await submit(...FLOW.slice(0, 3))) as [string, string, string]
  const [last] = (await submit({ type: 'report', after: [join], on_failure: 'run' })) as [string]
  await go(`tasks/${last}`)
  for (const id of [first, second, join, last]) await has(node(id), 'pending')
  await has(page.locator('.facts'), 'run anyway')
  await has(page.locator('.facts'), join)
  await go(`tasks/${join}`)
  await has(main(), 'Waiting for 2 tasks:')
  await page.getByRole('region', { name: 'Why it waits' }).getByRole('link', { name: first }).click()
  await has(page.locator('.id'), first)
  expect(await drawing().count()).toBe(0)
  await server.call('POST', '/tasks/cancel', {})
})

it('draws many similar tasks as one node, and expands it on request', async () => {
  const pages = Array.from({ length: 30 }, (): Step => ({ type: 'fetch', batch: 'wide' }))
  const ids = await submit(...pages, { type: 'join', batch: 'wide', after: pages.map((_, place) => place) })
  await go('batch/wide')
  const pile = drawing().getByRole('button')
  await has(pile, '30 × fetch')
  await has(pile, '30 pending')
  const taken = await take('fetch')
  await has(pile, '1 processing · 29 pending')
  await complete(taken)
  await has(pile, '29 pending · 1 success')
  expect(await drawing().getByRole('link').count()).toBe(1)
  await pile.click()
  for (const id of ids.slice(0, 30)) await node(id).waitFor()
  await has(node(taken.id), 'success')
  expect(await drawing().getByRole('button').count()).toBe(0)
  await server.call('DELETE', '/batches/wide')
})

it('shows how many tasks of a large batch are not drawn', async () => {
  const steps = Array.from({ length: 300 }, (_, n): Step => ({ type: n < 299 ? 'fetch' : 'join', batch: 'large' }))
  await submit(...steps.map((step, n) => (n === 299 ? { ...step, after: [0] } : step)))
  await go('batch/large')
  await has(page.getByRole('region', { name: 'Flow' }), '99 more tasks are not shown.')
  await server.call('DELETE', '/batches/large')
})

it('submits a batch name and predecessors from the form', async () => {
  const [first] = (await submit({ type: 'fetch' })) as [string]
  await go('submit?type=quick')
  await page.locator('summary').click()
  await page.getByLabel('Batch').fill('by hand')
  await page.getByLabel('Waits for (task ids').fill(` ${first}, `)
  await page.getByLabel('If one of these fails').selectOption('wait for a retry')
  await page.locator('form').getByRole('button', { name: 'Submit' }).click()
  await page.locator('.submitted a').click()
  await has(page.locator('.facts'), 'wait for a retry')
  await has(page.getByRole('region', { name: 'Why it waits' }), first)
  await page.locator('.facts').getByRole('link', { name: 'by hand' }).click()
  await has(main(), '0 of 1 have ended')
  await complete(await take('fetch'))
  await has(main(), '1 of 1 have ended')
  expect(browser.complaints).toEqual([])
})

it('shows any name of a batch only as text', async () => {
  const batch = '<img src=x onerror=alert(1)>/?#%25&批次'
  const [id] = (await flow(batch)) as [string]
  await go(`tasks/${id}`)
  await page.locator('.facts').getByRole('link', { name: batch }).click()
  await has(page.locator('.id'), batch)
  await has(main(), '0 of 4 have ended')
  await page.reload()
  await has(main(), '0 of 4 have ended')
  await page.locator('.total.pending').click()
  await has(page.locator('.count').last(), '4 tasks')
  expect(await page.locator('main img').count()).toBe(0)
  expect(browser.complaints).toEqual([])
  await server.call('DELETE', `/batches/${encodeURIComponent(batch)}`)
})

it.each([
  ['light', 1200],
  ['dark', 1200],
  ['light', 390],
  ['dark', 390],
] as const)('passes axe and fits the screen, in %s mode at %d pixels', async (colorScheme, width) => {
  const batch = `${colorScheme}-${width}`
  const ids = await submit(
    ...FLOW.map((step) => ({ ...step, batch })),
    ...Array.from({ length: 10 }, (): Step => ({ type: 'report', after: [0], batch })),
    { type: 'join', after: [0, 3], on_failure: 'wait', batch },
  )
  await complete(await take('fetch'))
  await fail(await take('fetch'))
  await take('report')
  await page.setViewportSize({ width, height: 900 })
  await page.emulateMedia({ colorScheme })
  for (const view of [`batch/${batch}`, `tasks/${ids[14]}`, `tasks?batch=${batch}`]) {
    await go(view)
    if (!view.startsWith('tasks?')) await has(node(ids[2]!), 'canceled')
    else await has(page.locator('.count').last(), '15 tasks')
    const name = `flow-${view.split(/[/?]/)[0]}-${batch}.png`
    if (screenshots) await page.screenshot({ path: join(screenshots, name), fullPage: width < 500 })
    expect(await faultsOf(page), view).toEqual([])
    expect(await page.evaluate('document.documentElement.scrollWidth'), view).toBeLessThanOrEqual(width)
  }
  await server.call('DELETE', `/batches/${batch}`)
})
