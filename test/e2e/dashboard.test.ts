import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, it, vi } from 'vitest'
import { has } from '../fixtures/chromium.ts'
import { browser, go, main, openDashboard, page, screenshot, server, shortId } from '../fixtures/dashboard.ts'
import { MANY_MS } from '../fixtures/mqtt-listener.ts'
import { startServer } from '../fixtures/server.ts'
import { startProxy } from '../fixtures/tcp-proxy.ts'

const VIEWS = ['Overview', 'Tasks', 'Workers', 'Limits', 'Schedules', 'Submit']

openDashboard()

it('shows totals, types, workers and health', async () => {
  await server.submit('slow')
  await has(page.locator('.total.processing'), /processing\s+1/)
  await has(main(), 'healthy')
  await go('workers')
  await has(main(), /1 of 50[\s\S]*slow/)
  await server.call('POST', '/tasks/cancel', { type: 'slow' })
})

it('draws the charts of a range from what the server keeps, and remembers the range', async () => {
  await server.until(await server.submit('quick'), { status: 'success' })
  const chart = (title: string) => page.getByRole('region', { name: title })
  // The last slot is not over and not shown; the server kept nothing of earlier ones.
  await page.route('**/stats/history?*', async (route) => {
    const history = await (await route.fetch()).json()
    history.slots.at(-2).submitted = 10_000
    await route.fulfill({ json: history })
  })
  await page.reload()
  const intervals = { '1 h': '10 s', '24 h': '5 min', '7 days': '2 h', '30 days': '2 h' }
  for (const [range, interval] of Object.entries(intervals)) {
    await page.getByRole('button', { name: range, exact: true }).click()
    await chart(`Success and errors in each ${interval}`).locator('canvas').waitFor()
    await has(chart(`Submitted and started in each ${interval}`), 'submitted 10,000')
    expect(await chart('Finished per second').count()).toBe(0)
  }
  await page.reload()
  await chart('Success and errors in each 2 h').locator('canvas').waitFor()
  expect(await page.getByRole('button', { name: '30 days' }).getAttribute('aria-pressed')).toBe('true')
  await screenshot('history', true)
  await page.getByRole('button', { name: 'live', exact: true }).click()
  await chart('Finished per second').waitFor()
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

it('shows its keys, and moves through the list with them', async () => {
  const ids = [await server.submit('quick'), await server.submit('quick')]
  await go('tasks?type=quick')
  // The overview has links in tables too.
  for (const id of ids)
    await has(
      main()
        .getByRole('row')
        .filter({ hasText: shortId(id) }),
      /success/,
    )
  await page.keyboard.press('?')
  await has(page.getByRole('dialog', { name: 'Keyboard' }), /jNext row/)
  const focused = () => page.evaluate('document.activeElement.closest("[role=row]")?.ariaRowIndex')
  // A key that comes before the closed dialog is gone from the page.
  await page.evaluate(`{
    const dialog = document.querySelector('dialog')
    dialog.close()
    dialog.dispatchEvent(new KeyboardEvent('keydown', { key: 'j', bubbles: true }))
  }`)
  await vi.waitFor(async () => expect(await focused()).toBe('2'))
  await page.keyboard.press('?')
  await page.getByRole('dialog', { name: 'Keyboard' }).waitFor()
  await page.keyboard.press('Escape')
  for (const [key, row] of [
    ['j', '3'],
    ['k', '2'],
  ] as const) {
    await page.keyboard.press(key)
    await vi.waitFor(async () => expect(await focused()).toBe(row))
  }
  await page.keyboard.press('x')
  await has(page.getByRole('group', { name: 'Selection' }), '1 selected')
  await page.keyboard.press('Enter')
  await has(page.getByRole('heading', { level: 1 }), 'quick')
})

it('updates live without MQTT', async () => {
  const silent = await startServer({ mqtt: 'off' })
  await page.goto(silent.url)
  await has(page.getByRole('status').first(), 'live')
  await go('tasks')
  const id = await silent.submit('quick')
  await has(page.getByRole('table'), new RegExp(`${shortId(id)}[\\s\\S]*success`))
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
  await has(page.getByRole('alert'), /The server does not answer. This page shows the state of .+ \d\d:\d\d:\d\d/)
  // The next attempt finds the network as silent.
  const { accepted } = network
  const nextAttempt = async () => {
    await passSilence()
    expect(network.accepted).toBeGreaterThan(accepted)
  }
  await vi.waitFor(nextAttempt, { timeout: MANY_MS, interval: 500 })
  network.repair()
  await has(page.getByRole('status').first(), 'live')
  await has(page.getByRole('table'), new RegExp(`${shortId(id)}[\\s\\S]*success`))
  expect(await page.evaluate('said')).toEqual(['server unavailable, reconnecting…', 'live'])
  await page.goto('about:blank')
  await network.stop()
})

it('does not call missing what the server only refuses or does not answer, and shows it as soon as it can', async () => {
  const id = await server.submit('quick', {}, { batch: 'refused' })
  await server.until(id, { status: 'success' })
  for (const [view, path] of [
    [`tasks/${id}`, `**/api/v1/tasks/${id}`],
    ['batch/refused', '**/api/v1/batches/refused'],
    ['workers', '**/api/v1/workers'],
    ['schedules', '**/api/v1/schedules'],
  ] as const) {
    await page.route(path, (route) => route.fulfill({ status: 503, json: { detail: 'The server is overloaded.' } }))
    await go(view)
    await has(main(), 'The server is overloaded.')
    await page.unroute(path)
    await page.route(path, (route) => route.abort())
    await has(main(), 'The server does not answer.')
    expect(await main().textContent()).not.toMatch(/not found|fetch/i)
    await page.unroute(path)
    await has(main(), /success|slots busy|No schedules/)
  }
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
  await has(page.getByRole('table'), new RegExp(`${shortId(id)}[\\s\\S]*success`))
  await has(page.getByRole('status').first(), 'live')
  expect(streams()).toBe(opened + 1)
})

it('sends requests only to its own server, and allows no inline script', async () => {
  const isAt = async (view: string) => expect(await page.title()).toBe(`${view} · XQueue`)
  for (const view of VIEWS) {
    await go(view.toLowerCase())
    await vi.waitFor(() => isAt(view), { timeout: MANY_MS })
  }
  const own = new URL(server.url).host
  expect(browser.requested.filter((url) => new URL(url).host !== own)).toEqual([])
  const { headers } = await fetch(server.url)
  expect(headers.get('content-security-policy')).toMatch(/default-src 'none'.*script-src 'self'; style-src 'self'/)
  await page.evaluate(`{
    const script = document.createElement('script')
    script.textContent = 'document.title = "taken over"'
    document.body.append(script)
  }`)
  await isAt('Submit')
})

it('can be used with the keyboard only', async () => {
  await server.submit('quick')
  await page.keyboard.press('Tab')
  expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to content')
  await page.keyboard.press('Enter')
  expect(await page.evaluate('document.activeElement.id')).toBe('main')
  await page.getByRole('link', { name: 'Tasks', exact: true }).focus()
  await page.keyboard.press('Enter')
  await page.getByRole('table', { name: 'Tasks' }).getByRole('link').first().waitFor()
  await page.getByRole('table', { name: 'Tasks' }).focus()
  await page.keyboard.press('j')
  await vi.waitFor(async () =>
    expect(await page.evaluate('document.activeElement.hash')).toMatch(/^#\/tasks\/[0-9a-f-]+$/),
  )
})

it('shows Chinese texts, and remembers the choice', async () => {
  await page.getByRole('button', { name: '中文' }).click()
  await has(page.locator('nav').first(), '总览')
  await page.reload()
  await has(page.getByRole('status').first(), '实时更新')
  expect(await page.getAttribute('html', 'lang')).toBe('zh-CN')
  await screenshot('overview-zh')
  await page.getByRole('button', { name: 'English' }).click()
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
