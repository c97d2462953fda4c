import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, it } from 'vitest'
import { freePort } from '../fixtures/ports.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { root } from '../fixtures/root.ts'

it('npm start ends with the server at SIGTERM, and frees the port', async () => {
  const port = await freePort()
  const live = `http://127.0.0.1:${port}/api/v1/live`
  const flags = ['--port', String(port), '--mqtt', 'off', '--engine', 'sqlite::memory:']
  // A group of its own, so that nothing is left behind even if the test fails.
  const npm = endAtExit(
    spawn('npm', ['start', '--', ...flags], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], detached: true }),
  )
  let log = ''
  await new Promise<void>((resolve, reject) => {
    const read = (chunk: Buffer) => {
      log += chunk
      if (log.includes('"address":')) resolve()
    }
    npm.stdout!.on('data', read)
    npm.stderr!.on('data', read)
    npm.once('close', () => reject(new Error(log)))
  })
  try {
    expect((await fetch(live)).status).toBe(200)
    npm.kill('SIGTERM')
    const [code] = await once(npm, 'exit')
    expect(code).toBe(0)
    await expect(fetch(live)).rejects.toThrow('fetch failed')
    expect(log).toContain('"msg":"stopped"')
  } finally {
    endGroup(npm.pid!)
  }
})

function endGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It has ended as a whole.
  }
}
