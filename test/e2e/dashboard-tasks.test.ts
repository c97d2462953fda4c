import { expect, it, vi } from 'vitest'
import { has } from '../fixtures/chromium.ts'
import {
  browser,
  confirm,
  go,
  main,
  openDashboard,
  page,
  screenshot,
  search,
  server,
  shortId,
  untilAt,
} from '../fixtures/dashboard.ts'
import { MANY_MS } from '../fixtures/mqtt-listener.ts'

openDashboard()

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

const shownIds = () => page.locator('.tasks .task-link').evaluateAll((links) => links.map((link) => link.title))

it('lists the tasks of one batch in the order of the API: newest first, pending ones as they will run', async () => {
  await server.call('POST', '/types/ordered', { declared: true })
  const tasks = Array.from({ length: 8 }, (_, at) => ({ type: 'ordered', priority: at % 3 }))
  for (const query of ['type=ordered', 'type=ordered&status=pending']) {
    await go(`tasks?${query}`)
    await has(main(), /\d+ tasks|No tasks/)
    await server.call('POST', '/tasks/batch', { tasks })
    const { body } = await server.call('GET', `/tasks?${query}`)
    const ids = body.tasks.map(({ id }: { id: string }) => id)
    await vi.waitFor(async () => expect(await shownIds()).toEqual(ids))
    await page.reload()
    await vi.waitFor(async () => expect(await shownIds()).toEqual(ids))
  }
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

it('updates the list of tasks live, by status, type, tag and id, in pages', async () => {
  await server.call('POST', '/tasks/batch', {
    tasks: Array.from({ length: 450 }, (_, n) => ({ type: 'quick', payload: n, tags: { half: String(n % 2) } })),
  })
  await go('tasks?type=quick')
  await has(page.locator('.count'), /\d\d\d\+ tasks/)
  const list = page.getByRole('table', { name: 'Tasks' })
  expect(await list.getByRole('row').count()).toBeLessThan(80)
  await vi.waitFor(async () => {
    await list.evaluate((element) => element.scrollTo(0, 1e6))
    expect(await page.locator('.count').textContent()).toMatch(/4[5-9]\d\+? tasks/)
  }, MANY_MS)
  await list.evaluate((element) => element.scrollTo(0, 0))
  const id = await server.submit('quick')
  await has(list.getByRole('row').nth(1), new RegExp(`${shortId(id)}[\\s\\S]*success`))
  await search('tag:half:1')
  await has(page.locator('.count'), '200+ tasks')
  await search(id)
  await has(main(), id)
})

it('keeps rows in their places while they are pointed at, and shows newer tasks when asked or left', async () => {
  await server.call('POST', '/types/held', { declared: true })
  const first = await server.submit('held')
  await go('tasks?type=held')
  await has(page.getByRole('table'), shortId(first))
  await page.locator('.list-body .list-row').hover()
  const second = await server.submit('held')
  const show = page.getByRole('button', { name: 'Show 1 new task' })
  await show.waitFor()
  await server.call('DELETE', `/tasks/${first}`)
  await has(page.locator('.list-body'), 'canceled')
  expect(await shownIds()).toEqual([first])
  await show.click()
  await vi.waitFor(async () => expect(await shownIds()).toEqual([second, first]))
  await page.locator('.list-body .list-row').first().hover()
  const third = await server.submit('held')
  await show.waitFor()
  await page.mouse.move(0, 0)
  await vi.waitFor(async () => expect(await shownIds()).toEqual([third, second, first]))
})

it('continues where it was on the way back, with the pages that were loaded', async () => {
  await server.call('POST', '/tasks/batch', {
    tasks: Array.from({ length: 500 }, (_, n) => ({ type: 'quick', payload: { n }, group: 'back' })),
  })
  await go('tasks?group=back')
  const list = page.getByRole('table', { name: 'Tasks' })
  await vi.waitFor(async () => {
    await list.evaluate((element) => element.scrollTo(0, 1e6))
    expect(await page.locator('.count').textContent()).toContain('500 tasks')
  }, MANY_MS)
  await list.evaluate((element) => element.scrollTo(0, 460 * 46))
  const row = list.locator('[aria-rowindex="465"]')
  const payload = (await row.locator('.cell-payload').textContent())!
  await row.locator('.cell-payload').click()
  await has(page.getByRole('region', { name: 'Payload' }), payload.replace('{"n":', '"n": ').replace('}', ''))
  await page.goBack()
  await has(row.locator('.cell-payload'), payload)
  expect(await list.evaluate((element) => element.scrollTop)).toBe(460 * 46)
  expect(await page.locator('.count').textContent()).toContain('500 tasks')
})

it('changes the selected tasks, and all that match, after a confirmation with their number', async () => {
  await server.call('POST', '/tasks/batch', {
    tasks: Array.from({ length: 12 }, (_, n) => ({ type: 'fails', payload: { n }, group: 'many' })),
  })
  const counts = async () => {
    const { tasks } = (await server.call('GET', '/tasks?group=many')).body
    return tasks.map(({ status, deliveries }: { status: string; deliveries: number }) => `${status} ${deliveries}`)
  }
  await vi.waitFor(async () => expect(await counts()).toEqual(Array(12).fill('failed 1')), MANY_MS)
  await go('tasks?group=many&status=failed')
  const line = (n: number) =>
    page
      .getByRole('table')
      .getByRole('row')
      .filter({ hasText: `{"n":${n}}` })
  await line(11).getByRole('checkbox').check()
  await line(10).getByRole('checkbox').check()
  await screenshot('selection')
  await page.getByRole('group', { name: 'Selection' }).getByRole('button', { name: 'Run again' }).click()
  await confirm('Run 2 tasks again?', 'Run again')
  await has(page.getByRole('log'), '2 tasks run again.')
  const retried = ['failed 2', 'failed 2', ...Array(10).fill('failed 1')]
  await vi.waitFor(async () => expect(await counts()).toEqual(retried), MANY_MS)
  const matching = page.getByRole('group', { name: 'All matching' })
  await matching.getByRole('button', { name: 'Delete' }).click()
  await has(page.getByRole('dialog'), /Delete 12 tasks\?.*status failed, group many.*cannot be undone/)
  await screenshot('confirm')
  await page.keyboard.press('Escape')
  expect(await counts()).toEqual(retried)
  await matching.getByRole('button', { name: 'Delete' }).click()
  await confirm('Delete 12 tasks?', 'Delete')
  await has(page.getByRole('log'), '12 tasks deleted.')
  await has(main(), 'No tasks.')
  expect(await counts()).toEqual([])
  expect(browser.complaints).toEqual([])
})

it('groups failures by their error, finds the tasks of one, and words in their errors', async () => {
  const worker_id = 'groups'
  await server.call('POST', '/types/grouped', { declared: true })
  const messages = ['no user 17 (a1b2c3d4e5f6)', 'no user 4 (0123456789ab)', 'disk full']
  for (const error of messages) {
    const id = await server.submit('grouped', { error }, { max_retry: 0 })
    const { leases } = (await server.call('POST', '/tasks/consume', { types: ['grouped'], wait: 30, worker_id })).body
    expect(leases[0].task.id).toBe(id)
    await server.call('POST', `/leases/${leases[0].lease}/fail`, { error, retry: false })
  }
  await go('tasks?view=errors&type=grouped')
  const rows = page.getByRole('region', { name: 'Errors' }).getByRole('row')
  await has(rows.nth(1), /no user # \(…\)2grouped/)
  await has(rows.nth(2), 'disk full1grouped')
  await rows.nth(1).getByRole('link', { name: 'no user' }).click()
  await has(page.locator('.count'), /^2 tasks/)
  expect(await page.locator('main input[type=search]').inputValue()).toBe('type:grouped pattern:no user # (…)')
  await search('DISK type:grouped')
  await has(page.locator('.count'), /^1 task\s*$/)
  await untilAt('#/tasks?type=grouped&error=DISK')
  const found = await page.getByRole('table').getByRole('link').first().textContent()
  await search(found!)
  await untilAt(/^#\/tasks\?id=/)
  await has(page.locator('.count'), /^1 task\s*$/)
  await search('disk type:grouped')
  await untilAt('#/tasks?type=grouped&error=disk')
  await page.getByLabel('Age', { exact: true }).selectOption('15m')
  await has(page.locator('.count'), /^1 task\s*$/)
  await untilAt('#/tasks?type=grouped&error=disk&range=15m')
  await page.getByRole('group', { name: 'All matching' }).getByRole('button', { name: 'Delete' }).click()
  await has(page.getByRole('dialog'), /Delete 1 task\?.*type grouped, error “disk”, From /)
  await confirm('Delete 1 task?', 'Delete')
  await has(page.locator('.count'), /^0 tasks/)
  const { body } = await server.call('GET', '/tasks?type=grouped')
  expect(body.count).toBe(2)
})

it('runs again and deletes all failures of an error, also those that are not loaded', async () => {
  await server.call('POST', '/types/alike', { declared: true })
  const fail = async (count: number, error: (n: number) => string) => {
    const tasks = Array.from({ length: count }, () => ({ type: 'alike', max_retry: 0 }))
    await server.call('POST', '/tasks/batch', { tasks })
    const { leases } = (await server.call('POST', '/tasks/consume', { types: ['alike'], max: count, wait: 30 })).body
    for (const [n, { lease }] of leases.entries()) {
      await server.call('POST', `/leases/${lease}/fail`, { error: error(n), retry: false })
    }
  }
  const counts = async () => {
    const { tasks } = (await server.call('GET', '/tasks?type=alike&limit=1000')).body
    const byStatus = Map.groupBy(tasks as { status: string }[], ({ status }) => status)
    return Object.fromEntries([...byStatus].map(([status, some]) => [status, some.length]))
  }
  await fail(250, (n) => `no user ${n}\nat a`)
  await fail(3, (n) => `no user ${n} here`)
  await go('tasks?view=errors&type=alike')
  const rows = page.getByRole('region', { name: 'Errors' }).getByRole('row')
  await has(rows.nth(1), /no user #250/)
  await rows.nth(1).getByRole('button', { name: 'Run again' }).click()
  await has(page.getByRole('dialog'), /Run 250 tasks again\?.*type alike, error “no user #”, status failed\/timeout\./)
  await confirm('Run 250 tasks again?', 'Run again')
  await has(page.getByRole('log'), '250 tasks run again.')
  // The rows stay where they were.
  await has(rows.nth(1), /no user #0alike/)
  expect(await rows.nth(1).getByRole('button', { name: 'Run again' }).isDisabled()).toBe(true)
  await has(rows.nth(2), /no user # here3alike/)
  expect(await counts()).toEqual({ pending: 250, failed: 3 })
  await server.call('POST', '/tasks/cancel', { type: 'alike' })
  await server.call('POST', '/tasks/purge', { type: 'alike', status: 'canceled' })
  await fail(250, (n) => `no user ${n}`)
  await rows.getByRole('link', { name: 'no user #', exact: true }).click()
  await has(page.locator('.count'), 'tasks')
  await page.reload()
  await has(page.locator('.count'), '200+ tasks')
  await screenshot('tasks-of-error')
  await page.getByRole('group', { name: 'All matching' }).getByRole('button', { name: 'Delete' }).click()
  await confirm('Delete 250 tasks?', 'Delete')
  await has(page.locator('.count'), /^0 tasks/)
  expect(await counts()).toEqual({ failed: 3 })
  expect(browser.complaints).toEqual([])
})

it('takes a status in the search line, and suggests types whose name has the words that no error has', async () => {
  await server.call('POST', '/types/invoices.send', { declared: true })
  const id = await server.submit('invoices.send')
  await go('tasks')
  await search('status:pending invoices')
  await untilAt('#/tasks?status=pending&error=invoices')
  const list = page.getByRole('table', { name: 'Tasks' })
  await has(list, 'No tasks. Show all')
  await list.getByRole('link', { name: 'invoices.send' }).click()
  await untilAt('#/tasks?status=pending&type=invoices.send')
  await vi.waitFor(async () => expect(await shownIds()).toEqual([id]))
  await search('status:ended')
  await has(page.getByRole('alert'), 'cannot be read: status=ended')
})

it('says which parts of its address it cannot read, and lists no other tasks instead', async () => {
  await go('tasks?from=2030&after=yesterday&range=1y&status=failed')
  const told = 'The address of this page has parts that cannot be read: from=2030, after=yesterday, range=1y'
  await has(page.getByRole('alert'), told)
  expect(await page.getByRole('table').count()).toBe(0)
  expect(await page.getByRole('group', { name: 'All matching' }).count()).toBe(0)
  await go('tasks?after=2020-01-01T00:00:00Z&status=failed')
  await has(page.locator('.count'), /tasks?/)
  expect(await page.getByRole('alert').count()).toBe(0)
  await go('overview?only=slow')
  await has(page.getByRole('alert'), 'cannot be read: only=slow')
  await go('tsks')
  await has(main(), 'There is no such page.tsks')
  await main().getByRole('link', { name: 'Overview' }).click()
  await page.getByRole('list', { name: 'Totals' }).waitFor()
})

it('finds an error and a time behind more tasks than the page loads, and changes all that match', async () => {
  await server.call('POST', '/types/searched', { declared: true })
  const ids = (
    await server.call('POST', '/tasks/batch', {
      tasks: Array.from({ length: 1_000 }, (_, n) => ({ type: 'searched', payload: { n }, max_retry: 0 })),
    })
  ).body.tasks.map((task: { id: string }) => task.id)
  const fail = async (count: number, error: string) => {
    const claimed = await server.call('POST', '/tasks/consume', { types: ['searched'], max: count, wait: 30 })
    for (const { lease } of claimed.body.leases) {
      await server.call('POST', `/leases/${lease}/fail`, { error, retry: false })
    }
  }
  await fail(2, `Error: the needle\n${'x'.repeat(300)} deep in the stack`)
  await fail(1, 'Error: hay')
  await go('tasks?type=searched')
  await search('type:searched DEEP in the stack')
  await has(page.locator('.count'), /^2 tasks\s*$/)
  const list = page.getByRole('table', { name: 'Tasks' })
  for (const id of ids.slice(0, 2)) await has(list, shortId(id))
  await page.reload()
  await has(page.locator('.count'), /^2 tasks\s*$/)
  expect(await page.locator('main input[type=search]').inputValue()).toBe('type:searched DEEP in the stack')
  await page.getByLabel('Age', { exact: true }).selectOption('between')
  const until = page.getByLabel('Until')
  await until.fill('2020-01-01T00:00')
  await has(page.getByRole('alert'), 'created_after')
  await page.getByLabel('From').fill('2019-01-01T00:00')
  await has(page.locator('.count'), /^0 tasks\s*$/)
  await untilAt(/after=20(18|19)-.*&before=20(19|20)-/)
  await page.getByLabel('Age', { exact: true }).selectOption('24h')
  await has(page.locator('.count'), /^2 tasks\s*$/)
  await screenshot('task-search')
  const matching = page.getByRole('group', { name: 'All matching' })
  await matching.getByRole('button', { name: 'Run again' }).click()
  await confirm('Run 2 tasks again?', 'Run again')
  await has(page.getByRole('log'), '2 tasks run again.')
  const failed = (await server.call('GET', '/tasks?type=searched&status=failed')).body
  expect(failed.tasks.map(({ error }: { error: string }) => error)).toEqual(['Error: hay'])
  await server.call('POST', '/tasks/cancel', { type: 'searched' })
  await server.call('POST', '/tasks/purge', { type: 'searched' })
})

it('runs a task again with another payload', async () => {
  await server.call('PUT', '/limits/gpu', { max: 5 })
  const options = {
    ...{ group: 'a', tags: { region: 'eu' }, priority: 3, max_retry: 1 },
    ...{ queue_timeout: 90, process_timeout: 1.5, uses: { gpu: 2 } },
  }
  const id = await server.submit('form', { name: 'Ann' }, options)
  await server.until(id, { status: 'success' })
  await go(`tasks/${id}`)
  await page.getByRole('link', { name: 'Edit and run again' }).click()
  await page.getByLabel('name').fill('Bob')
  await page.locator('form').getByRole('button', { name: 'Submit' }).click()
  await page.locator('.submitted a').click()
  await has(main(), '"greeting": "Bob 1"')
  const copy = (await page.locator('.id').textContent())!
  expect((await server.call('GET', `/tasks/${copy}`)).body).toMatchObject({
    payload: { name: 'Bob' },
    ...options,
  })
})

it('deletes a task after a question, and lists it no longer', async () => {
  const kept = await server.submit('quick')
  const id = await server.submit('quick', { deleted: true })
  await server.until(id, { status: 'success' })
  await go(`tasks/${id}`)
  await page.getByRole('button', { name: 'Delete' }).click()
  await confirm('Delete this task?', 'Delete')
  await has(page.getByRole('log'), 'Deleted.')
  await untilAt('#/tasks')
  await page.getByRole('link', { name: shortId(kept) }).waitFor()
  expect(await page.getByRole('table').textContent()).not.toContain(shortId(id))
  await go(`tasks/${id}`)
  await has(main(), 'Task not found')
})
