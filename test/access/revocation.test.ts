import { once } from 'node:events'
import mqtt from 'mqtt'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { LOOK_MS } from '../../src/access/access.ts'
import { BELIEVED_MS, KeyRing } from '../../src/access/key-ring.ts'
import { openQueue } from '../../src/queue/open.ts'
import { type Program, startProgram } from '../fixtures/program.ts'

const SOON = { timeout: 30_000, interval: 20 }
let program: Program
let ring: KeyRing
let close: () => Promise<void>
beforeAll(async () => {
  program = await startProgram({ guarded: true })
  const queue = await openQueue(program.store)
  ring = new KeyRing(queue)
  close = () => queue.close()
})
afterAll(async () => {
  await close?.()
})

it('a revocation in one process ends calls, sessions, event streams and MQTT connections in another', async () => {
  const rights = { scopes: ['read'] as const, rate: null, expiresAt: null, session: null }
  const { token, key } = await ring.add({ name: 'shop', ...rights })
  const ask = (headers: Record<string, string>) => fetch(`${program.url}/api/v1/stats`, { headers })
  const bearer = { Authorization: `Bearer ${token}` }
  await vi.waitFor(async () => expect((await ask(bearer)).status).toBe(200), SOON)
  const body = JSON.stringify({ key: token })
  const headers = { 'Content-Type': 'application/json' }
  const login = await fetch(`${program.url}/api/v1/session`, { method: 'POST', body, headers })
  const cookie = { Cookie: login.headers.get('set-cookie')!.split(';')[0]! }
  expect((await ask(cookie)).status).toBe(200)
  const stream = (await fetch(`${program.url}/api/v1/events`, { headers: bearer })).body!.getReader()
  const options = { username: 'key', password: token, reconnectPeriod: 0, protocolVersion: 4 } as const
  const client = mqtt.connect(`mqtt://127.0.0.1:${program.mqttPort}`, options)
  await once(client as never, 'connect')
  const cutOff = once(client as never, 'close')

  await ring.drop(key.id)
  await vi.waitFor(async () => expect((await ask(bearer)).status).toBe(401), SOON)
  expect((await ask(cookie)).status).toBe(401)
  await cutOff
  while (!(await stream.read()).done);
  await client.endAsync(true)
})

it('a process caches keys and waits between two reads for less than a second in total', () => {
  expect(BELIEVED_MS + LOOK_MS).toBeLessThan(1_000)
})
