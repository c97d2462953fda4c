import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it, vi } from 'vitest'
import { createClient } from '../../src/client.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { type Program, prepareProgram } from '../fixtures/program.ts'
import { main } from '../fixtures/root.ts'

/** A server whose type `double` is paused: its tasks end when `resume` is called. */
async function startPaused(): Promise<Program> {
  const program = await prepareProgram({ handlers: 'handlers.ts' })
  writeFileSync(join(program.folder, 'handlers.ts'), 'export default { double: { run: ({ payload }) => payload * 2 } }')
  await program.start()
  await program.post('/types/double/pause')
  return program
}

it('submit --wait names the task at once, and waits on while the server is away', async () => {
  const program = await startPaused()
  const args = [main, 'submit', 'double', '21', '--wait', '--server', program.url]
  const child = endAtExit(spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] }))
  const ended = once(child, 'close')
  let [output, told] = ['', '']
  child.stdout!.on('data', (chunk) => (output += chunk))
  child.stderr!.on('data', (chunk) => (told += chunk))
  const id = await vi.waitFor(async () => {
    const { tasks } = (await program.get('/tasks')).body
    expect(told).toBe(`${tasks[0].id} submitted\n`)
    return tasks[0].id
  })
  await program.kill()
  await vi.waitFor(() => expect(told).toMatch(/ cannot be reached .* waiting for it$/m))
  await program.start()
  await program.post('/types/double/resume')
  expect((await ended)[0]).toBe(0)
  expect(output).toBe(`${id} success\n42\n`)
})

it('the wait for a batch goes on while the server is away', async () => {
  const program = await startPaused()
  let refused = 0
  const counted: typeof fetch = (...request) =>
    fetch(...request).catch((error) => {
      refused += 1
      throw error
    })
  const client = createClient(program.url, { fetch: counted })
  await client.submit('double', 21, { batch: 'all' })
  let first = 0
  const ended = client.batch('all').ended({ onProgress: ({ pending }) => (first = pending) })
  const state = expect(ended).resolves.toMatchObject({ success: 1, done: true })
  await vi.waitFor(() => expect(first).toBe(1))
  await program.kill()
  await vi.waitFor(() => expect(refused).toBeGreaterThan(0))
  await program.start()
  await program.post('/types/double/resume')
  await state
})
