import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, expect, it, vi } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { freePort } from '../fixtures/ports.ts'
import { endAtExit, removeAtExit } from '../fixtures/processes.ts'
import { startRedis } from '../fixtures/redis.ts'
import { main } from '../fixtures/root.ts'

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

function start(...args: string[]) {
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-wait-')))
  const child: ChildProcess = endAtExit(
    spawn(process.execPath, [main, ...args, '--log-format', 'json'], {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'pipe'],
    }),
  )
  const process_ = { child, log: '' }
  child.stderr!.on('data', (chunk) => {
    process_.log += chunk
  })
  ends.push(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    rmSync(folder, { recursive: true, force: true })
  })
  return process_
}
const times = (log: string, text: string) => log.split(text).length - 1
const WAITS = 'the start-up waits for it'
const GOES_ON = 'the start-up continues'
const READY = 'xqueue is ready'

it('a server that starts before its Redis waits, answers /live meanwhile, and logs it once', async () => {
  const redis = await startRedis()
  ends.push(() => redis.stop())
  await redis.kill()
  const port = await freePort()
  const url = `http://127.0.0.1:${port}/api/v1`
  const server = start('serve', '--port', String(port), '--mqtt', 'off', '--engine', `${redis.url}?wait_ms=500`)
  await vi.waitFor(() => expect(server.log).toContain(WAITS), { timeout: 30_000 })
  expect((await fetch(`${url}/live`)).status).toBe(200)
  const refused = await fetch(`${url}/tasks`)
  expect([refused.status, refused.headers.get('content-type'), refused.headers.get('retry-after')]).toEqual([
    503,
    'application/problem+json',
    '1',
  ])
  expect(await refused.json()).toMatchObject({ code: 'engine_unavailable', status: 503 })
  await redis.start()
  await vi.waitFor(() => expect(server.log).toContain(READY), { timeout: 30_000 })
  expect([times(server.log, WAITS), times(server.log, GOES_ON)]).toEqual([1, 1])
  expect((await fetch(`${url}/tasks`)).status).toBe(200)
}, 60_000)

it.each(['worker', 'serve'])(
  'a %s that starts while another process holds the file waits, and ends only after --store-wait',
  async (command) => {
    const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-lock-')))
    const path = join(folder, 'x.db')
    await (await openQueue(`sqlite:${path}`)).close()
    const lock = new DatabaseSync(path)
    ends.push(() => lock.close())
    lock.exec('BEGIN IMMEDIATE')
    const port = command === 'serve' ? ['--port', '0'] : []
    const flags = [...port, '--mqtt', 'off', '--engine', `sqlite:${path}`]
    const patient = start(command, ...flags)
    const hasty = start(command, ...flags, '--store-wait', '1s')
    await vi.waitFor(() => expect(patient.log).toContain(WAITS), { timeout: 30_000 })
    await vi.waitFor(() => expect(hasty.child.exitCode).toBe(3), { timeout: 30_000 })
    expect(patient.child.exitCode).toBeNull()
    lock.exec('ROLLBACK')
    await vi.waitFor(() => expect(patient.log).toContain(READY), { timeout: 30_000 })
    expect([times(patient.log, WAITS), times(patient.log, GOES_ON)]).toEqual([1, 1])
  },
  60_000,
)

it.each(['SIGTERM', 'SIGINT'] as const)(
  '%s ends a process that waits for its store',
  async (signal) => {
    const port = await freePort()
    const nobody = `redis://127.0.0.1:${port}?wait_ms=200`
    const waiting = start('worker', '--engine', nobody)
    await vi.waitFor(() => expect(waiting.log).toContain(WAITS), { timeout: 30_000 })
    waiting.child.kill(signal)
    const [code] = await once(waiting.child, 'exit')
    expect([code, times(waiting.log, 'stopping during the start'), times(waiting.log, 'stopped')]).toEqual([0, 1, 1])
  },
  60_000,
)

it('a signal during the start stops the process in order', async () => {
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-signal-')))
  ends.push(() => rmSync(folder, { recursive: true, force: true }))
  const handlers = join(folder, 'handlers.mjs')
  writeFileSync(handlers, "process.kill(process.pid, 'SIGTERM')\nexport default {}\n")
  const early = start('serve', '--port', '0', '--mqtt', 'off', '--handlers', handlers)
  const [code] = await once(early.child, 'exit')
  expect([code, times(early.log, 'stopped'), times(early.log, READY)]).toEqual([0, 1, 0])
}, 60_000)
