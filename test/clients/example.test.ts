import { spawn } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { endAtExit, removeAtExit } from '../fixtures/processes.ts'
import { type Program, startProgram } from '../fixtures/program.ts'
import { writeSnippets } from '../fixtures/snippets.ts'

let server: Program
beforeAll(async () => {
  server = await startProgram()
})
afterAll(() => server.stop())

it('runs the worker of docs/clients.md, which reports failures and continues after an outage', async () => {
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-example-')))
  writeSnippets('docs/clients.md', folder)
  const env = { ...process.env, XQUEUE_SERVER: server.url }
  const worker = endAtExit(
    spawn(process.execPath, ['worker.mjs'], { cwd: folder, env, stdio: ['ignore', 'ignore', 'pipe'] }),
  )
  let log = ''
  worker.stderr!.on('data', (chunk) => {
    log += chunk
  })
  await server.untilHandled('shout')
  const ids = await Promise.all(
    Array.from({ length: 50 }, (_, index) => server.submit('shout', { text: `no ${index}` })),
  )
  for (const [index, id] of ids.entries()) await server.until(id, { status: 'success', result: `NO ${index}` })
  const failing = await server.submit('shout', {}, { max_retry: 0 })
  await server.until(failing, { status: 'failed', error: expect.stringContaining('TypeError') })
  await server.kill()
  await vi.waitFor(() => expect(log).toContain('fetch failed'))
  await server.start()
  await server.until(await server.submit('shout', { text: 'back' }), { status: 'success', result: 'BACK' })
  worker.kill()
})
