import { beforeAll, expect, it } from 'vitest'
import { faultsOf, has } from '../fixtures/chromium.ts'
import { go, main, openDashboard, page, screenshot, server } from '../fixtures/dashboard.ts'
import { isLong } from '../fixtures/long.ts'

openDashboard()

/** A name of the greatest length, which cannot be broken between words. */
const LONG = 'n'.repeat(100)

/** Addresses, with a text that tells that the page has what it shows. */
const pages: [address: string, text: string | RegExp][] = []
/** Of a running task. */
let lease: string
let failed: string

beforeAll(async () => {
  await server.call('POST', `/types/${LONG}`, { declared: true })
  const options = { group: LONG, tags: { [LONG.slice(0, 60)]: LONG }, batch: LONG, max_retry: 0 }
  const submit = (more: object = {}) => server.submit(LONG, { [LONG]: LONG.repeat(3) }, { ...options, ...more })
  const take = async () => {
    const taken = await server.call('POST', '/tasks/consume', { types: [LONG], wait: 30, worker_id: LONG })
    return taken.body.leases[0].lease as string
  }
  failed = await submit()
  const log = { message: `${LONG} ${LONG}`, fields: { [LONG]: 1 } }
  await server.call('POST', `/leases/${await take()}/fail`, { error: `${LONG} ${LONG}`, retry: false, logs: [log] })
  const running = await submit()
  lease = await take()
  const waiting = await submit({ after: [running] })
  await server.call('PUT', `/limits/${LONG}`, { max: 2, rate: { max: 100, per: '1m' } })
  await server.call('POST', `/limits/${LONG}/hold`, { for: '1h' })
  await server.submit(LONG, {}, { uses: { [LONG]: 1 } })
  await server.call('POST', '/schedules', { id: LONG, type: LONG, cron: '30 2 * * *', timezone: 'America/New_York' })
  pages.push(
    ['overview', /Uptime[\s\S]*storage/],
    ['tasks', LONG],
    ['tasks?view=errors', LONG],
    [`tasks?group=${LONG}&batch=${LONG}&error=${LONG}`, LONG],
    [`tasks/${failed}`, /attempt 1[\s\S]*failed[\s\S]*info/],
    [`tasks/${running}`, /30%/],
    [`tasks/${waiting}`, 'Waiting for one task'],
    ['tasks/0193a3c1-7c00-7000-8000-000000000001', 'Task not found'],
    [`types/${LONG}`, /Errors of the last 7 days[\s\S]*Groups/],
    ['types/none', 'Type not found'],
    ['workers', LONG],
    [`workers/${LONG}`, LONG],
    ['limits', /held until/],
    ['schedules', LONG],
    ['submit?type=form', 'Payload'],
    [`submit?copy=${failed}`, LONG],
    [`batch/${LONG}`, /1 of 3 have ended[\s\S]*Flow/],
  )
})

/** The task stays running, however long the pages take. */
async function renew(): Promise<void> {
  const progress = { percent: 30, message: LONG }
  expect((await server.call('POST', `/leases/${lease}/heartbeat`, { progress })).status).toBe(200)
}

/** Colors do not depend on the width: together, these have each mode and each width. */
const SCREENS = [
  ['light', 1440],
  ['dark', 768],
  ['light', 390],
] as const
const MORE_SCREENS = [
  ['dark', 1440],
  ['light', 768],
  ['dark', 390],
] as const

it.each(isLong ? [...SCREENS, ...MORE_SCREENS] : SCREENS)(
  'pages pass axe and fit the screen with long names, in %s mode at %d pixels',
  async (colorScheme, width) => {
    await page.setViewportSize({ width, height: 900 })
    await page.emulateMedia({ colorScheme })
    for (const [address, text] of pages) {
      await renew()
      await go(address)
      await has(main(), text).catch((cause) => expect.fail(`${address}: ${cause.message}`))
      const name = address.replaceAll(LONG, 'long').replaceAll(/[^a-z]+/g, '-')
      await screenshot(`${name}-${colorScheme}-${width}`, width < 500)
      expect(await faultsOf(page), address).toEqual([])
      expect(await page.evaluate('document.documentElement.scrollWidth'), address).toBeLessThanOrEqual(width)
    }
  },
)

it.each(['light', 'dark'] as const)(
  'passes axe while something is asked, edited or selected, in %s mode',
  async (colorScheme) => {
    await page.emulateMedia({ colorScheme })
    const passes = async (name: string) => {
      await screenshot(`${name}-${colorScheme}`)
      expect(await faultsOf(page), name).toEqual([])
    }
    await go('tasks?status=failed')
    await page.getByRole('checkbox', { name: `Select ${failed}` }).check()
    await passes('selection')
    await page.getByRole('group', { name: 'Selection' }).getByRole('button', { name: 'Delete' }).click()
    await page.getByRole('dialog', { name: 'Delete 1 task?' }).waitFor()
    await passes('question')
    await page.keyboard.press('Escape')
    await page.keyboard.press('?')
    await page.getByRole('dialog', { name: 'Keyboard' }).waitFor()
    await passes('keys')
    await page.keyboard.press('Escape')
    await go('schedules')
    await page.getByRole('button', { name: 'Edit' }).click()
    await has(page.locator('.preview'), 'Next ticks')
    await passes('schedule-edited')
    await go('limits')
    await page.getByLabel(`Limit: ${LONG}`).first().fill('7')
    await page.locator('.limits button[aria-expanded]').first().click()
    await passes('limit-edited')
    await go('overview')
    await page.getByRole('button', { name: 'live', exact: true }).click()
    await page.getByRole('region', { name: 'Finished per second' }).waitFor()
    await passes('overview-live')
  },
)
