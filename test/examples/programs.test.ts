import { execFileSync } from 'node:child_process'
import { existsSync, globSync, mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Locator } from 'playwright-core'
import { beforeAll, expect, it, vi } from 'vitest'
import { Browser } from '../fixtures/chromium.ts'
import { removeAtExit } from '../fixtures/processes.ts'
import { type Program, startProgram } from '../fixtures/program.ts'
import { root } from '../fixtures/root.ts'
import { commandOf, node, start, stop, untilPrinted } from './example-program.ts'

let server: Program

beforeAll(async () => {
  server = await startProgram({ handlers: join(root, 'handlers/index.ts') })
})

/** The payload that an example's header submits. */
const submitted = (file: string) => JSON.parse(/'(\{.*\})'/.exec(commandOf(file, 'npm run xqueue -- submit'))![1]!)

it('the worker in Python counts words', async () => {
  expect(commandOf('worker.py', 'PYTHONPATH')).toBe('PYTHONPATH=clients/python python3 examples/worker.py')
  const worker = start(server, 'python3', [join(root, 'examples/worker.py')])
  await server.untilHandled('words')
  const task = await server.until(await server.submit('words', submitted('worker.py')), { status: 'success' })
  expect(task).toMatchObject({
    result: {
      words: 6,
      often: [
        ['so', 2],
        ['it', 1],
        ['goes', 1],
      ],
    },
    progress: 100,
  })
  await server.until(await server.submit('words', {}), { status: 'failed', error: 'the payload has no text' })
  await stop(worker)
  expect(worker.child.exitCode).toBe(0)
})

it('the worker in Go counts primes', { timeout: 180_000 }, async () => {
  const folder = join(root, 'examples/worker-go')
  const binary = join(removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-worker-go-'))), 'worker')
  execFileSync('go', ['build', '-o', binary, '.'], { cwd: folder })
  const worker = start(server, binary, [])
  await server.untilHandled('primes')
  const id = await server.submit('primes', submitted('worker-go/main.go'))
  expect(await server.until(id, { status: 'success' })).toMatchObject({ result: { primes: 78_498 } })
  await server.until(await server.submit('primes', { below: -1 }), { status: 'failed', attempts: 1 })
  await stop(worker)
  expect(worker.child.exitCode).toBe(0)
})

it('the Express application shows the progress of its tasks in the browser, and cancels them', async () => {
  expect(commandOf('express/app.ts', 'npx node')).toBe('npx node examples/express/app.ts')
  const app = node(server, 'express/app.ts')
  const url = await untilPrinted(app, /http:\S+/)
  const browser = await Browser.start()
  const page = await browser.open(url)
  const shows = (row: Locator, text: string) =>
    vi.waitFor(async () => expect(await row.textContent({ timeout: 1_000 })).toContain(text), {
      timeout: 30_000,
      interval: 20,
    })
  const submit = async (seconds: string) => {
    const answer = page.waitForResponse((response) => response.request().method() === 'POST')
    await page.getByLabel('Seconds').fill(seconds)
    await page.getByRole('button', { name: 'Submit' }).click()
    const { id } = await (await answer).json()
    return { id, row: page.locator(`[id="${id}"]`) }
  }
  const [short, long] = [await submit('1'), await submit('600')]
  await shows(short.row, 'processing')
  await vi.waitFor(
    async () => {
      const done = Number(await short.row.getByRole('progressbar').getAttribute('value'))
      expect(done > 0 && done < 100).toBe(true)
    },
    { timeout: 30_000, interval: 10 },
  )
  await shows(short.row, 'success')
  await shows(long.row, 'processing')
  await long.row.getByRole('button', { name: 'Cancel' }).click()
  await shows(long.row, 'canceled')
  await server.until(long.id, { status: 'canceled' })
  await page.reload()
  await shows(long.row, 'canceled')
  await shows(short.row, 'success')
  expect(await page.locator('li').count()).toBe(2)
  expect(browser.complaints).toEqual([])
  expect(browser.requested.filter((asked) => !asked.startsWith(url) && !asked.startsWith('data:'))).toEqual([])
  await browser.close()

  // The application reports a refusal of XQueue.
  const headers = { 'Content-Type': 'application/json' }
  const refused = await fetch(`${url}/tasks`, { method: 'POST', headers, body: '{"duration": -1}' })
  expect([refused.status, await refused.json()]).toEqual([400, { detail: expect.stringContaining('payload.duration') }])
  expect((await fetch(`${url}/tasks/${short.id}`, { method: 'DELETE' })).status).toBe(409)
  await stop(app)
})

it('a test runs every example', () => {
  const tests = globSync('test/**/*.test.ts', { cwd: root }).map((file) => readFileSync(join(root, file), 'utf8'))
  const examples = globSync('examples/*', { cwd: root }).map((path) => path.replace('examples/', ''))
  expect(examples.length).toBeGreaterThanOrEqual(8)
  expect(existsSync(join(root, 'examples/test_api.sh'))).toBe(true)
  expect(examples.filter((name) => !tests.some((test) => test.includes(name)))).toEqual([])
})
