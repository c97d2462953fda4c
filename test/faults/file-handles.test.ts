import type { Socket } from 'node:net'
import { afterEach, expect, it, vi } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { type Program, startProgram } from '../fixtures/program.ts'
import { open } from '../fuzz/raw-socket.ts'
import { allEvents, check, type Line } from './history.ts'

const HANDLES = 96
let program: Program | undefined
const flood: Socket[] = []
afterEach(async () => {
  for (const socket of flood.splice(0)) socket.destroy()
})

it('continues without file handles for new connections, and accepts connections again when there are some', async () => {
  program = await startProgram({ guarded: true, before: ['prlimit', `--nofile=${HANDLES}:${HANDLES}`] })
  const call = program.call.bind(program)
  const lines: Line[] = []
  const submit = async () => {
    const started = performance.now()
    try {
      const { body, status } = await call('POST', '/tasks', { type: 'leased' })
      if (status === 201) lines.push({ what: 'accepted', id: body.id, at: Date.now() })
      else lines.push({ what: 'refused', code: body.code, afterMs: performance.now() - started, at: Date.now() })
    } catch {
      lines.push({ what: 'refused', code: 'no connection', afterMs: performance.now() - started, at: Date.now() })
    }
  }
  const count = (what: Line['what']) => lines.filter((line) => line.what === what).length
  for (let round = 0; round < 3; round++) {
    // More than it has handles for; half of them in the middle of a request.
    flood.push(...(await Promise.all(Array.from({ length: 2 * HANDLES }, () => open(program!.port)))))
    for (const socket of flood.filter((_, index) => index % 2 === 0)) socket.write('GET /api/v1/live HTTP/1.1\r\nX:')
    const before = count('refused')
    await vi.waitFor(
      async () => {
        await Promise.all(Array.from({ length: 20 }, submit))
        expect(count('refused')).toBeGreaterThan(before)
      },
      { timeout: 20_000 },
    )
    for (const socket of flood.splice(0)) socket.destroy()
    const accepted = count('accepted')
    await vi.waitFor(
      async () => {
        await submit()
        expect(count('accepted')).toBeGreaterThan(accepted + 20)
      },
      { timeout: 20_000, interval: 5 },
    )
  }
  await vi.waitFor(
    async () => {
      const { pending_tasks, processing_tasks } = (await call('GET', '/stats')).body
      expect([pending_tasks, processing_tasks]).toEqual([0, 0])
    },
    { timeout: 20_000 },
  )
  const queue = await openQueue(program.store)
  const events = await allEvents(queue)
  await queue.close()
  console.info(`no file handles: ${count('accepted')} accepted, ${count('refused')} refused`)
  expect([program.hasEnded, check({ events, lines, limits: {} })]).toEqual([false, []])
})
