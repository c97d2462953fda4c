import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Page } from 'playwright-core'
import { beforeAll, beforeEach, expect, it, vi } from 'vitest'
import { Browser, faultsOf, has } from '../fixtures/chromium.ts'
import { MANY_MS } from '../fixtures/mqtt-listener.ts'
import { type Server, startServer } from '../fixtures/server.ts'
import { startProxy } from '../fixtures/tcp-proxy.ts'

const VIEWS = ['overview', 'tasks', 'workers', 'limits', 'schedules', 'submit']
/** For people to view: `XQUEUE_SCREENSHOTS=folder npx vitest run test/e2e/dashboard.test.ts`. */
const screenshots = process.env.XQUEUE_SCREENSHOTS

let server: Server
let browser: Browser
let page: Page

beforeAll(async () => {
  server = await startServer({ concurrency: '50' })
  browser = await Browser.start()
  if (screenshots) mkdirSync(screenshots, { recursive: true })
})
beforeEach(async () => {
  await page?.close()
  browser.complaints.length = 0
  browser.requested.length = 0
  page = await browser.open(`${server.url}/`)
  await has(page.getByRole('status').first(), 'live')
})

async function go(view: string): Promise<void> {
  await page.evaluate(`location.hash = '#/${view}'`)
}

const main = () => page.locator('main')

it('submits through the form and shows the states as they change', async () => {
  await page.getByRole('link', { name: 'Submit' }).click()
  await page.getByLabel('Type').selectOption('form')
  await page.getByLabel('name').fill('<b>Ann</b>')
  await page.getByLabel('times').fill('3')
  await page.locator('form').getByRole('button', { name: 'Submit' }).click()
  await has(page.locator('.submitted'), 'success')
  await page.locator('.submitted a').click()
  await has(main(), '"greeting": "<b>Ann</b> 3"')
  await has(page.locator('.timeline'), /pending[\s\S]*processing[\s\S]*success/)
  expect(browser.complaints).toEqual([])
})

it('shows the error of the server for an invalid payload', async () => {
  await go('submit?type=form')
  await page.getByRole('button', { name: 'As JSON' }).click()
  await page.getByLabel('Payload').fill('{"name": "x", "times": "three"}')
  await page.locator('form').getByRole('button', { name: 'Submit' }).click()
  await has(page.getByRole('alert'), 'payload.times')
  await page.getByLabel('Payload').fill('{')
  await page.locator('form').getByRole('button', { name: 'Submit' }).click()
  await has(page.getByRole('alert'), 'Invalid JSON')
})

it('changes a limit after a note on its effect, and more tasks run at once', async () => {
  const ids = await Promise.all(Array.from({ length: 5 }, () => server.submit('slow')))
  await go('limits')
  const row = page.getByRole('row', { name: 'slow', exact: true })
  await has(row, '2 of 2')
  await page.getByLabel('Limit: slow').fill('4')
  await has(main(), 'Up to 2 pending tasks start at once.')
  await row.getByRole('button', { name: 'Set' }).click()
  await has(row, '4 of 4')
  await row.getByRole('button', { name: '4 of 4' }).click()
  await has(page.getByRole('list', { name: 'Holders of the permits' }), ids[0]!)
  await page.getByLabel('Each group: slow').fill('3')
  await page.getByLabel('Starts / time: slow').fill('1000/1m')
  await page.getByLabel('Starts / time: slow').press('Enter')
  await vi.waitFor(async () => {
    const { body } = await server.call('GET', '/concurrency/slow')
    expect(body).toMatchObject({ max_concurrency: 4, group_concurrency: 3, rate: { max: 1_000, per: 60 } })
  })
  await page.getByLabel('Starts / time: slow').fill('1000/25h')
  await row.getByRole('button', { name: 'Set' }).click()
  await has(page.getByRole('alert'), 'must be from 1 ms to 24 hours')
  await page.getByLabel('Starts / time: slow').fill('')
  await page.getByLabel('Each group: slow').fill('')
  await row.getByRole('button', { name: 'Set' }).click()
  await vi.waitFor(async () => {
    const { body } = await server.call('GET', '/concurrency/slow')
    expect(body).toMatchObject({ max_concurrency: 4, group_concurrency: null, rate: null })
  })
  await server.call('POST', '/concurrency', { task_type: 'slow', max_concurrency: 2 })
  await server.call('POST', '/tasks/cancel', { type: 'slow' })
})

it('shows until when a type is held, why its tasks wait, and ends the hold', async () => {
  await server.call('POST', '/limits/type:slow/hold', { for: '1h' })
  const id = await server.submit('slow')
  await go(`tasks/${id}`)
  await has(main(), /No task of the type starts before .+: the service that it calls refuses calls/)
  await go('limits')
  const row = page.getByRole('row', { name: 'slow', exact: true })
  await has(row, /held until \d/)
  if (screenshots) await page.screenshot({ path: join(screenshots, 'held.png') })
  await row.getByRole('button', { name: 'Resume' }).click()
  await row.getByRole('button', { name: 'Pause' }).waitFor()
  await vi.waitFor(async () => expect((await server.call('GET', `/tasks/${id}`)).body.status).toBe('processing'))
  await server.call('POST', '/tasks/cancel', { type: 'slow' })
})

it('adds a schedule after a preview of its times, runs it now, pauses and removes it', async () => {
  await go('schedules')
  await page.getByText('Add a schedule').click()
  await page.getByLabel('Name').fill('nightly')
  await page.getByLabel('Type').selectOption('form')
  await page.getByLabel('Payload').fill('{"name": "Ann", "times": 1}')
  await page.getByLabel('Cron').last().fill('61 2 * * *')
  await has(page.locator('.preview'), 'has the invalid minute "61"')
  await page.getByLabel('Cron').last().fill('30 2 * * *')
  await has(page.locator('.preview'), 'Next ticks: ')
  await page.getByRole('button', { name: 'Add', exact: true }).click()
  const panel = page.getByRole('region', { name: 'nightly' })
  await has(panel, '30 2 * * *')
  await panel.getByRole('button', { name: 'Pause' }).click()
  await has(panel, 'paused')
  await panel.getByRole('button', { name: 'Run now' }).click()
  await panel.getByRole('link', { name: 'Task' }).click()
  await has(main(), '"greeting": "Ann 1"')
  await go('schedules')
  await panel.getByRole('button', { name: 'Remove' }).click()
  await has(main(), 'No schedules.')
  expect(browser.complaints.filter((text) => !text.includes('400'))).toEqual([])
})

it('shows why a task waits, and cancels a running task', async () => {
  const [first, , third] = [await server.submit('slow'), await server.submit('slow'), await server.submit('slow')]
  await go(`tasks/${third}`)
  await has(main(), 'All 2 permits of the type are in use.')
  await go(`tasks/${first}`)
  await has(main(), 'Running on')
  await page.getByRole('button', { name: 'Cancel' }).click()
  await has(page.getByRole('heading', { level: 1 }), 'canceled')
  await go(`tasks/${third}`)
  await has(page.getByRole('heading', { level: 1 }), 'processing')
  await server.call('POST', '/tasks/cancel', { type: 'slow' })
})

it('retries a failed task, and shows its error only as text', async () => {
  const id = await server.submit('fails', { '<script>alert(1)</script>': '<img src=x onerror=alert(2)>' })
  await go('tasks?status=failed')
  await page.getByRole('link', { name: id }).click()
  await has(main(), '<img src=x onerror=alert(1)>')
  await page.getByRole('button', { name: 'Run again' }).click()
  await has(page.locator('.timeline'), /failed[\s\S]*pending[\s\S]*processing[\s\S]*failed/)
  const attempts = page.getByRole('region', { name: 'Attempts' }).getByRole('listitem')
  await has(attempts.nth(1), /attempt 1[\s\S]*failed/)
  await has(attempts.first(), /attempt 1[\s\S]*failed[\s\S]*<img src=x onerror=alert\(1\)>/)
  expect(await page.locator('main img, main script').count()).toBe(0)
  expect(browser.complaints).toEqual([])
})

it('draws the charts of a range from what the server keeps, and remembers the range', async () => {
  await server.until(await server.submit('quick'), { status: 'success' })
  const chart = (title: string) => page.getByRole('region', { name: title })
  await chart('Finished per second').waitFor()
  for (const range of ['1 h', '24 h', '7 days', '30 days']) {
    await page.getByRole('button', { name: range, exact: true }).click()
    await chart('Success and errors per minute').locator('canvas').waitFor()
    await chart('Submitted and started per minute').locator('canvas').waitFor()
    expect(await chart('Finished per second').count()).toBe(0)
  }
  await page.reload()
  await chart('Success and errors per minute').locator('canvas').waitFor()
  expect(await page.getByRole('button', { name: '30 days' }).getAttribute('aria-pressed')).toBe('true')
  if (screenshots) await page.screenshot({ path: join(screenshots, 'history.png'), fullPage: true })
  await page.getByRole('button', { name: 'live', exact: true }).click()
  await chart('Finished per second').waitFor()
  expect(browser.complaints).toEqual([])
})

it('shows the log of each attempt as it is written, with its error', async () => {
  await server.call('POST', '/types/talkative', { declared: true })
  const id = await server.submit('talkative', {}, { max_retry: 3 })
  const claim = async () =>
    (await server.call('POST', '/tasks/consume', { types: ['talkative'], wait: 30 })).body.leases[0].lease
  const first = await claim()
  await go(`tasks/${id}`)
  const attempts = page.getByRole('region', { name: 'Attempts' }).getByRole('listitem')
  await has(attempts.first(), /attempt 1[\s\S]*running/)
  const line = { message: '<b>one</b>', level: 'warn', fields: { bytes: 7 } }
  await server.call('POST', `/leases/${first}/heartbeat`, { logs: [line] })
  await has(attempts.first(), /warn <b>one<\/b> \{"bytes":7\}/)
  const error = ['Error: gone', 'at mine (/app/a.ts:1:1)', 'at x (/app/node_modules/x/x.js:1:1)'].join('\n    ')
  await server.call('POST', `/leases/${first}/fail`, { error, delay: 0 })
  const second = await claim()
  await has(attempts.nth(1), /attempt 2[\s\S]*running/)
  await has(attempts.first(), /failed[\s\S]*one[\s\S]*Error: gone[\s\S]*at mine[\s\S]*1 frame of libraries/)
  await server.call('POST', `/leases/${second}/heartbeat`, { logs: [{ message: 'two' }] })
  await has(attempts.nth(1), 'info two')
  await server.call('POST', `/leases/${second}/complete`, { logs: [{ message: 'three' }] })
  await has(attempts.nth(1), /success[\s\S]*two[\s\S]*info three/)
  expect(await attempts.first().textContent()).not.toContain('three')
  if (screenshots) await page.screenshot({ path: join(screenshots, 'task-log.png'), fullPage: true })
  expect(browser.complaints).toEqual([])
})

it('shows all data of tasks and workers only as text, in every view', async () => {
  const markup = '<img src=x onerror=alert(3)>"\'</script><script>alert(4)</script>'
  const worker_id = markup.slice(0, 100)
  const consume = () => server.call('POST', '/tasks/consume', { types: ['foreign'], wait: 20, worker_id })
  const first = consume()
  await vi.waitFor(async () => expect((await server.call('GET', '/handlers')).body.handlers).toContain('foreign'))
  const task = { type: 'foreign', payload: { [markup]: markup }, tags: { t: markup }, group: markup, max_retry: 0 }
  const id = (await server.call('POST', '/tasks', { ...task, idempotency_key: markup })).body.id as string
  const { lease } = (await first).body.leases[0]
  await server.call('POST', `/leases/${lease}/heartbeat`, { progress: { [markup]: markup } })
  const shown = async (view: string, text: string) => {
    await go(view)
    await has(main(), text)
    expect(await page.locator('main img, main script').count(), view).toBe(0)
  }
  await shown(`tasks/${id}`, markup)
  await has(page.locator('.facts'), `t:${markup}`)
  await has(page.getByRole('region', { name: 'Progress' }), 'onerror')
  await shown('workers', worker_id)
  await go('limits')
  await page.getByRole('row', { name: 'foreign', exact: true }).locator('button[aria-expanded]').click()
  await shown('limits', worker_id)
  await server.call('POST', `/leases/${lease}/fail`, { error: `${markup}\n at ${markup}`, retry: false })
  await shown(`tasks/${id}`, `at ${markup}`)
  await shown('tasks?type=foreign', markup)
  expect(browser.complaints).toEqual([])
})

it('updates the list of tasks live, by status, type, tag and id, in pages', async () => {
  await server.call('POST', '/tasks/batch', {
    tasks: Array.from({ length: 450 }, (_, n) => ({ type: 'quick', payload: n, tags: { half: String(n % 2) } })),
  })
  await go('tasks?type=quick')
  await has(page.locator('.count'), /\d\d\d shown/)
  const list = page.getByRole('table', { name: 'Tasks' })
  expect(await list.getByRole('row').count()).toBeLessThan(80)
  await vi.waitFor(async () => {
    await list.evaluate((element) => element.scrollTo(0, 1e6))
    expect(await page.locator('.count').textContent()).toMatch(/4[5-9]\d shown/)
  }, MANY_MS)
  await list.evaluate((element) => element.scrollTo(0, 0))
  const id = await server.submit('quick')
  await has(list.getByRole('row').nth(1), new RegExp(`${id}[\\s\\S]*success`))
  await page.getByLabel('Tag').fill('half:1')
  await page.getByRole('button', { name: 'Filter' }).click()
  await has(page.locator('.count'), '200 shown')
  await page.getByLabel('Task id').fill(id)
  await page.getByRole('button', { name: 'Open' }).click()
  await has(main(), id)
})

it('shows totals, types, workers and health', async () => {
  await server.submit('slow')
  await has(page.locator('.total.processing'), /processing\s+1/)
  await has(main(), 'healthy')
  await go('workers')
  await has(main(), /1 of 50[\s\S]*slow/)
  await server.call('POST', '/tasks/cancel', { type: 'slow' })
})

it('updates live without MQTT', async () => {
  const silent = await startServer({ mqtt: 'off' })
  await page.goto(silent.url)
  await has(page.getByRole('status').first(), 'live')
  await go('tasks')
  const id = await silent.submit('quick')
  await has(page.getByRole('table'), new RegExp(`${id}[\\s\\S]*success`))
  await page.goto('about:blank')
  await silent.stop()
})

it('replaces a silent connection, and shows the changes of the meantime', async () => {
  const network = await startProxy(Number(new URL(server.url).port))
  await page.clock.install()
  const passSilence = () => page.clock.fastForward(10_000)
  await page.goto(`http://127.0.0.1:${network.port}/#/tasks`)
  await has(page.getByRole('status').first(), 'live')
  await page.evaluate(`{
    const status = document.querySelector('[role=status]')
    globalThis.said = []
    const changes = { subtree: true, childList: true, characterData: true }
    new MutationObserver(() => said.push(status.textContent)).observe(status, changes)
  }`)
  network.swallow()
  const id = await server.submit('quick')
  await passSilence()
  await has(page.getByRole('status').first(), 'reconnecting')
  // The next attempt finds the network as silent.
  const { accepted } = network
  const nextAttempt = async () => {
    await passSilence()
    expect(network.accepted).toBeGreaterThan(accepted)
  }
  await vi.waitFor(nextAttempt, { timeout: MANY_MS, interval: 500 })
  network.repair()
  await has(page.getByRole('status').first(), 'live')
  await has(page.getByRole('table'), new RegExp(`${id}[\\s\\S]*success`))
  expect(await page.evaluate('said')).toEqual(['server unavailable, reconnecting…', 'live'])
  await page.goto('about:blank')
  await network.stop()
})

it('keeps no connection while it is hidden, and is up to date when it is shown', async () => {
  await go('tasks')
  await page.getByRole('table').waitFor()
  const show = (hidden: boolean) =>
    page.evaluate(`Object.defineProperty(document, 'hidden', { value: ${hidden}, configurable: true })
      document.dispatchEvent(new Event('visibilitychange'))`)
  const streams = () => browser.requested.filter((url) => url.includes('/events')).length
  const opened = streams()
  await show(true)
  const id = await server.submit('quick')
  const status = async () => (await server.call('GET', `/tasks/${id}`)).body.status
  await vi.waitFor(async () => expect(await status()).toBe('success'), { timeout: MANY_MS })
  await show(false)
  await has(page.getByRole('table'), new RegExp(`${id}[\\s\\S]*success`))
  await has(page.getByRole('status').first(), 'live')
  expect(streams()).toBe(opened + 1)
})

it('sends requests only to its own server, and allows no inline script', async () => {
  for (const view of VIEWS) await go(view)
  const own = new URL(server.url).host
  expect(browser.requested.filter((url) => new URL(url).host !== own)).toEqual([])
  const { headers } = await fetch(server.url)
  expect(headers.get('content-security-policy')).toMatch(/default-src 'none'.*script-src 'self'; style-src 'self'/)
  await page.evaluate(`{
    const script = document.createElement('script')
    script.textContent = 'document.title = "taken over"'
    document.body.append(script)
  }`)
  expect(await page.title()).toBe('XQueue')
})

it('can be used with the keyboard only', async () => {
  await server.submit('quick')
  await page.keyboard.press('Tab')
  expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to content')
  await page.keyboard.press('Enter')
  expect(await page.evaluate('document.activeElement.id')).toBe('main')
  await page.getByRole('link', { name: 'Tasks', exact: true }).focus()
  await page.keyboard.press('Enter')
  await page.getByRole('table').getByRole('link').first().waitFor()
  await page.getByRole('table', { name: 'Tasks' }).focus()
  await page.keyboard.press('Tab')
  expect(await page.evaluate('document.activeElement.hash')).toMatch(/^#\/tasks\/[0-9a-f-]+$/)
})

it('shows Chinese texts, and remembers the choice', async () => {
  await page.getByRole('button', { name: '中文' }).click()
  await has(page.locator('nav').first(), '总览')
  await page.reload()
  await has(page.getByRole('status').first(), '实时更新')
  expect(await page.getAttribute('html', 'lang')).toBe('zh-CN')
  if (screenshots) await page.screenshot({ path: join(screenshots, 'overview-zh.png') })
  await page.getByRole('button', { name: 'English' }).click()
})

it.each([
  ['light', 1360],
  ['dark', 1360],
  ['light', 375],
] as const)('passes axe and fits the screen, in %s mode at %d pixels', async (colorScheme, width) => {
  await server.submit('fails')
  await server.submit('slow')
  await page.setViewportSize({ width, height: 900 })
  await page.emulateMedia({ colorScheme })
  const { tasks } = (await server.call('GET', '/tasks?status=failed&limit=1')).body
  for (const view of [...VIEWS, `tasks/${tasks[0].id}`, 'submit?type=form']) {
    await go(view)
    await page.getByRole('heading', { level: 1 }).waitFor()
    if (view === 'overview') await page.locator('.checks').waitFor()
    if (view === 'overview' || view === 'limits') await main().getByText('slow').first().waitFor()
    if (view === 'tasks') await page.getByRole('table').getByRole('link').first().waitFor()
    const name = `${view.replaceAll(/[/?=]/g, '-').slice(0, 20)}-${colorScheme}-${width}.png`
    if (screenshots) await page.screenshot({ path: join(screenshots, name), fullPage: width < 500 })
    expect(await faultsOf(page), view).toEqual([])
    expect(await page.evaluate('document.documentElement.scrollWidth'), view).toBeLessThanOrEqual(width)
  }
  await server.call('POST', '/tasks/cancel', { type: 'slow' })
})

it('runs the example page, which follows one task without a library', async () => {
  const host = await startServer({ 'mqtt-origins': 'null' })
  const example = await browser.open(pathToFileURL(join(import.meta.dirname, '../../examples/mqtt-client.html')).href)
  const id = await host.submit('slow')
  await example.getByLabel('Server').fill(new URL(host.url).host)
  await example.getByLabel('Task id').fill(id)
  await example.getByRole('button').click()
  await has(example.locator('#states'), 'processing')
  await host.call('DELETE', `/tasks/${id}`)
  await has(example.locator('#states'), /processing[\s\S]*canceled/)
  await example.close()
  await host.stop()
})
