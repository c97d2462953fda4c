import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, expect, it, vi } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { completeSpec } from '../../src/task/task.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { main } from '../fixtures/root.ts'

const handlers = join(import.meta.dirname, '../../handlers/index.ts')
const SOON_MS = 30_000
let folder: string
beforeEach(() => {
  folder = temporaryFolder()
  chmodSync(folder, 0o755)
})

/** Runs a command in a shell with an open umask. */
const openly = (args: readonly string[]) => ['-c', 'umask 0; exec "$0" "$@"', process.execPath, main, ...args]
const xqueue = (...args: string[]) => spawnSync('sh', openly(args), { cwd: folder, encoding: 'utf8' })
/** Everything below the folder, with its mode. */
function modes(): Record<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()
  return Object.fromEntries(names.map((name) => [name, (statSync(join(folder, name)).mode & 0o777).toString(8)]))
}

it('keys create and migrate create stores that only their user can read, whatever the umask is', () => {
  expect(xqueue('keys', 'create', 'a', '--scopes', 'admin', '--engine', 'sqlite:./keys.db').status).toBe(0)
  const moved = xqueue('migrate', 'sqlite:./keys.db', 'sqlite:./moved.db')
  expect([moved.status, moved.stderr]).toEqual([0, ''])
  expect(modes()).toEqual({ 'keys.db': '600', 'moved.db': '600' })
})

it.each(['serve', 'worker'])('%s creates a store, a log and an outbox that only its user can read', async (command) => {
  const flags = ['--engine', 'sqlite:./x.db', '--handlers', handlers, '--port', '0', '--mqtt', 'off']
  const shown = command === 'serve' ? flags : flags.filter((flag) => !['--port', '0'].includes(flag))
  const child = endAtExit(spawn('sh', openly([command, ...shown]), { cwd: folder, stdio: 'ignore' }))
  const queue = await vi.waitFor(
    async () => {
      expect(modes()['x.db-wal']).toBe('600')
      return openQueue(`sqlite:${join(folder, 'x.db')}`)
    },
    { timeout: SOON_MS },
  )
  const payload = { to: 'a@example.com', subject: 's', text: 't' }
  await vi.waitFor(() => queue.submit([completeSpec({ type: 'email', payload })]), { timeout: SOON_MS })
  await vi.waitFor(() => expect(Object.keys(modes()).join(' ')).toMatch(/\.eml/), { timeout: SOON_MS })
  const made = modes()
  expect(made).toMatchObject({ 'x.db': '600', 'x.db-wal': '600', 'x.db-shm': '600', outbox: '700' })
  expect(Object.entries(made).filter(([name, mode]) => name.endsWith('.eml') && mode !== '600')).toEqual([])
  await queue.close()
  child.kill('SIGKILL')
  await once(child, 'close')
})

it('creates the file that a link points to, and keeps the mode of an existing file', async () => {
  symlinkSync(join(folder, 'real.db'), join(folder, 'link.db'))
  await (await openQueue(`sqlite:${join(folder, 'link.db')}`)).close()
  writeFileSync(join(folder, 'shared.db'), '')
  chmodSync(join(folder, 'shared.db'), 0o660)
  await (await openQueue(`sqlite:${join(folder, 'shared.db')}`)).close()
  expect(modes()).toEqual({ 'link.db': '600', 'real.db': '600', 'shared.db': '660' })
})
