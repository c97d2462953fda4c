import { execFileSync } from 'node:child_process'
import { existsSync, globSync, mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { Browser } from '../services/chromium.ts'
import { removeAtExit } from '../services/processes.ts'
import { root, XQueue } from '../services/xqueue.ts'
import { commandOf, node, start, stop, untilPrinted } from './stage.ts'

let server: XQueue

beforeAll(async () => {
  server = await XQueue.start('--handlers', join(root, 'handlers/index.ts'))
})
afterAll(() => server.stop())

/** The payload that an example's header submits. */
const submitted = (file: string) => JSON.parse(/'(\{.*\})'/.exec(commandOf(file, 'npm run xqueue -- submit'))![1]!)

it('the worker in Python counts words', async () => {
  expect(commandOf('worker.py', 'PYTHONPATH')).toBe('PYTHONPATH=clients/python python3 examples/worker.py')
  const worker = start(server, 'python3', [join(root, 'examples/worker.py')])
  await server.untilKnown('words')
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
  await server.untilKnown('primes')
  const id = await server.submit('primes', submitted('worker-go/main.go'))
  expect(await server.until(id, { status: 'success' })).toMatchObject({ result: { primes: 78_498 } })
  await server.until(await server.submit('primes', { below: -1 }), { status: 'failed', attempts: 1 })
  await stop(worker)
  expect(worker.child.exitCode).toBe(0)
})

it('the application shows in the browser how its orders go', async () => {
  const app = node(server, 'live-status/app.ts')
  const browser = await Browser.start()
  const page = await browser.open(await untilPrinted(app, /http:\S+/))
  const [first, second] = [page.locator('li').nth(0), page.locator('li').nth(1)]
  await page.getByRole('button', { name: 'Order' }).click()
  await vi.waitFor(async () => expect(await first.textContent()).toContain('processing'), {
    timeout: 30_000,
    interval: 20,
  })
  await page.getByRole('button', { name: 'Order' }).click()
  for (const row of [first, second]) {
    await vi.waitFor(async () => expect(await row.textContent()).toContain('success'), {
      timeout: 30_000,
      interval: 20,
    })
  }
  await page.reload()
  await vi.waitFor(async () => expect(await second.textContent()).toContain('success'), { timeout: 30_000 })
  expect(await page.locator('li').count()).toBe(2)
  expect(browser.complaints).toEqual([])
  await browser.close()
  await stop(app)
})

it('every example is run by a test', () => {
  const tests = globSync('test/**/*.test.ts', { cwd: root }).map((file) => readFileSync(join(root, file), 'utf8'))
  const examples = globSync('examples/*', { cwd: root }).map((path) => path.replace('examples/', ''))
  expect(examples.length).toBeGreaterThanOrEqual(8)
  expect(existsSync(join(root, 'examples/test_api.sh'))).toBe(true)
  expect(examples.filter((name) => !tests.some((test) => test.includes(name)))).toEqual([])
})
