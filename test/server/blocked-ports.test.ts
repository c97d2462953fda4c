import { expect, it } from 'vitest'
import { createClient } from '../../src/client/client.ts'
import { whyBlocked } from '../../src/server/blocked-ports.ts'
import { runXQueue } from '../fixtures/program.ts'

async function isRefused(port: number): Promise<boolean> {
  const refusal = await fetch(`http://127.0.0.1:${port}`, { signal: AbortSignal.timeout(1_000) }).catch(
    (error) => error,
  )
  return refusal.cause?.message === 'bad port'
}

it('knows the ports that fetch refuses', async () => {
  const ports = Array.from({ length: 11_000 }, (_, index) => index + 1)
  const blocked = ports.filter((port) => whyBlocked(port) !== null)
  const neighbors = blocked.flatMap((port) => [port - 1, port + 1]).filter((port) => port > 0)
  for (const port of new Set([...blocked, ...neighbors])) {
    expect([port, await isRefused(port)]).toEqual([port, blocked.includes(port)])
  }
})

it('says so before a server uses one, and when a client calls one', async () => {
  const { stdout } = runXQueue(['doctor', '--json', '--engine', 'sqlite::memory:', '--mqtt', 'off', '--port', '10080'])
  expect(stdout).toContain('browsers and `fetch` refuse to call port 10080')
  const change = createClient('http://127.0.0.1:10080').changes().next()
  await expect(change).rejects.toThrow('`fetch` refuses this port: let the server use another')
})
