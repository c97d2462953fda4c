import { expect, it, vi } from 'vitest'
import { has } from '../fixtures/chromium.ts'
import { browser, confirm, go, main, openDashboard, page, screenshot, server, shortId } from '../fixtures/dashboard.ts'
import { MANY_MS } from '../fixtures/mqtt-listener.ts'

openDashboard()

/** Takes a task that no worker of the server takes. */
async function claim(type: string): Promise<string> {
  return (await server.call('POST', '/tasks/consume', { types: [type], wait: 30 })).body.leases[0].lease
}

it('shows why a task waits, and cancels a running task', async () => {
  const [first, , third] = [await server.submit('slow'), await server.submit('slow'), await server.submit('slow')]
  await go(`tasks/${third}`)
  await has(main(), 'All 2 permits of the type are in use.')
  await has(page.getByRole('region', { name: 'Why it waits' }), first)
  await go(`tasks/${first}`)
  await has(page.locator('.facts'), /Ran\d+ m?s/)
  expect(await page.getByRole('region', { name: 'Why it waits' }).count()).toBe(0)
  await page.getByRole('button', { name: 'Cancel' }).click()
  await confirm('Cancel this task?', 'Cancel')
  await has(page.getByRole('heading', { level: 1 }), 'canceled')
  await go(`tasks/${third}`)
  await has(page.getByRole('heading', { level: 1 }), 'processing')
  await server.call('POST', '/tasks/cancel', { type: 'slow' })
})

it('retries a failed task, and shows its error only as text', async () => {
  const id = await server.submit('fails', { '<script>alert(1)</script>': '<img src=x onerror=alert(2)>' })
  await go('tasks?status=failed')
  await page.locator('.list-body').getByText('alert(2)').first().click()
  await has(page.locator('.id'), id)
  await has(main(), '<img src=x onerror=alert(1)>')
  await page.getByRole('button', { name: 'Run again' }).click()
  await has(page.locator('.timeline'), /failed[\s\S]*pending[\s\S]*processing[\s\S]*failed/)
  const attempts = page.getByRole('region', { name: 'Attempts' }).getByRole('listitem')
  await has(attempts.nth(1), /^run again: attempt 1[\s\S]*failed/)
  await has(attempts.first(), /^attempt 1[\s\S]*failed[\s\S]*<img src=x onerror=alert\(1\)>/)
  expect(await page.locator('main img, main script').count()).toBe(0)
  expect(browser.complaints).toEqual([])
})

it('leads from a failed task to all of its type that failed with the same error', async () => {
  const ids = [await server.submit('fails', {}, { max_retry: 0 }), await server.submit('fails', {}, { max_retry: 0 })]
  for (const id of ids) await server.until(id, { status: 'failed' })
  await go(`tasks/${ids[0]}`)
  await page.getByRole('link', { name: 'Tasks of this type with the same error' }).click()
  for (const id of ids) await has(page.getByRole('table', { name: 'Tasks' }), shortId(id))
})

it('shows the log of each attempt as it is written, with its error', async () => {
  await server.call('POST', '/types/talkative', { declared: true })
  const id = await server.submit('talkative', {}, { max_retry: 3 })
  const first = await claim('talkative')
  await go(`tasks/${id}`)
  const attempts = page.getByRole('region', { name: 'Attempts' }).getByRole('listitem')
  await has(attempts.first(), /attempt 1[\s\S]*running/)
  const line = { message: '<b>one</b>', level: 'warn', fields: { bytes: 7 } }
  await server.call('POST', `/leases/${first}/heartbeat`, { logs: [line] })
  await has(attempts.first(), /warn <b>one<\/b> \{"bytes":7\}/)
  const error = ['Error: gone', 'at mine (/app/a.ts:1:1)', 'at x (/app/node_modules/x/x.js:1:1)'].join('\n    ')
  await server.call('POST', `/leases/${first}/fail`, { error, delay: 0 })
  const second = await claim('talkative')
  await has(attempts.nth(1), /attempt 2[\s\S]*running/)
  await has(attempts.first(), /failed[\s\S]*one[\s\S]*Error: gone[\s\S]*at mine[\s\S]*1 frame of libraries/)
  await server.call('POST', `/leases/${second}/heartbeat`, { logs: [{ message: 'two' }] })
  await has(attempts.nth(1), 'info two')
  await server.call('POST', `/leases/${second}/complete`, { logs: [{ message: 'three' }] })
  await has(attempts.nth(1), /success[\s\S]*two[\s\S]*info three/)
  expect(await attempts.first().textContent()).not.toContain('three')
  await screenshot('task-log', true)
  expect(browser.complaints).toEqual([])
})

it('follows the log of a running task at its end, and stays where the user has scrolled', async () => {
  await server.call('POST', '/types/followed', { declared: true })
  const id = await server.submit('followed')
  const lease = await claim('followed')
  await go(`tasks/${id}`)
  const write = (count: number, text: string) => {
    const logs = Array.from({ length: count }, (_, n) => ({ message: `${text} ${n}` }))
    return server.call('POST', `/leases/${lease}/heartbeat`, { logs })
  }
  await write(80, 'first')
  const log = page.getByRole('group', { name: 'Log' })
  await has(log, 'first 79')
  await write(1, 'second')
  await has(log, 'second 0')
  const fromEnd = await log.evaluate(
    ({ scrollTop, clientHeight, scrollHeight }) => scrollHeight - clientHeight - scrollTop,
  )
  expect(fromEnd).toBeLessThan(2)
  await log.evaluate((element) => element.scrollTo(0, 100))
  await write(1, 'third')
  await has(log, 'third 0')
  expect(await log.evaluate((element) => element.scrollTop)).toBe(100)
  await server.call('POST', `/leases/${lease}/complete`)
})

it('shows progress with a message, the running time, and JSON that folds', async () => {
  await server.call('POST', '/types/told', { declared: true })
  const id = await server.submit('told', { deep: { list: [1, { two: null }] } })
  await server.call('POST', `/leases/${await claim('told')}/heartbeat`, {
    progress: { percent: 40, message: 'page 4' },
  })
  await go(`tasks/${id}`)
  const progress = page.getByRole('region', { name: 'Progress' })
  await has(progress, /40%.*page 4/)
  expect(await progress.getByRole('meter').getAttribute('aria-valuenow')).toBe('40')
  const ran = page.locator('.fact').filter({ hasText: 'Ran' }).locator('dd')
  const first = await ran.textContent()
  await vi.waitFor(async () => expect(await ran.textContent()).not.toBe(first), MANY_MS)
  const payload = page.getByRole('region', { name: 'Payload' })
  await has(payload, '"two": null')
  await payload.getByRole('button', { name: 'Fold', exact: true }).click()
  expect(await payload.textContent()).not.toContain('two')
  await payload.locator('summary').first().click()
  await has(payload, /"deep".*1 field /)
  await payload.getByRole('button', { name: 'Unfold' }).click()
  await has(payload, '"two": null')
  expect(await page.title()).toBe(`told ${shortId(id)} · processing · XQueue`)
  await server.call('POST', '/tasks/cancel', { type: 'told' })
})
