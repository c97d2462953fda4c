import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'

const root = join(import.meta.dirname, '../..')
const main = join(root, 'dist/src/cli/main.js')
const folder = mkdtempSync(join(tmpdir(), 'xqueue-build-'))

beforeAll(() => {
  execFileSync(process.execPath, [join(root, 'scripts/build.ts')], { stdio: 'inherit' })
})
afterAll(() => rmSync(folder, { recursive: true, maxRetries: 5, retryDelay: 100 }))

it('runs what is published: compiled, with its SQL, its page and its threads', async () => {
  const handlers = join(folder, 'handlers.ts')
  const entry = JSON.stringify(join(root, 'dist/src/index.js'))
  writeFileSync(
    handlers,
    `import { defineHandlers } from ${entry}
export default defineHandlers({
  double: { isolate: true, run: async (task: { payload: unknown }) => Number(task.payload) * 2 },
})`,
  )
  const args = [main, 'serve', '--port', '0', '--engine', `sqlite:${join(folder, 'x.db')}`, '--handlers', handlers]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const address = await new Promise<string>((resolve, reject) => {
    let log = ''
    child.stderr.on('data', (chunk) => {
      log += chunk
      const found = /"address":"([^"]+)"/.exec(log)?.[1]
      if (found) resolve(found)
    })
    child.once('exit', () => reject(new Error(log)))
  })
  const env = { ...process.env, XQUEUE_SERVER: address }
  const output = execFileSync(process.execPath, [main, 'submit', 'double', '21', '--wait', '--json'], { env })
  expect(JSON.parse(output.toString())).toMatchObject({ status: 'success', result: 42 })
  expect(await (await fetch(address)).text()).toContain('<title>')
  child.kill('SIGTERM')
  expect((await once(child, 'exit'))[0]).toBe(0)
})

it('publishes what tests of handlers need', () => {
  const entry = JSON.stringify(join(root, 'dist/src/testing.js'))
  const script = `import { createTestQueue } from ${entry}
const queue = await createTestQueue({ double: { run: ({ payload }) => payload * 2 } })
const task = await queue.submit('double', 21, { delay: '1h' })
await queue.runUntilIdle()
console.log(await queue.result(task))
await queue.close()`
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', script])
  expect(output.toString()).toBe('42\n')
})
