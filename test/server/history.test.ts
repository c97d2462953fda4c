import { join } from 'node:path'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { createClient } from '../../src/index.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const handlers = {
  good: { run: () => null },
  bad: {
    maxRetry: 0,
    run: () => {
      throw new Error('no')
    },
  },
}
let server: Server
beforeAll(async () => {
  server = await startServer({}, handlers)
  const types = ['good', 'good', 'bad'] as const
  await server.call('POST', '/tasks/batch', { tasks: types.map((type) => ({ type })) })
  await vi.waitFor(async () => expect((await server.queue.stats()).counts).toMatchObject({ success: 2, failed: 1 }))
})

describe('GET /stats/history', () => {
  it('has a slot for each step of the range', async () => {
    const shape = async (range: string) => {
      const { status, body } = await server.call('GET', `/stats/history?range=${range}`)
      const [first, last] = [body.slots[0], body.slots.at(-1)].map(({ at }) => Date.parse(at))
      return [status, body.slot, body.slots.length, (last! - first!) / 1_000 / (body.slots.length - 1)]
    }
    expect(await shape('1h')).toEqual([200, 10, 360, 10])
    expect(await shape('24h')).toEqual([200, 300, 288, 300])
    expect(await shape('7d')).toEqual([200, 7_200, 84, 7_200])
    expect(await shape('30d')).toEqual([200, 7_200, 360, 7_200])
    const bad = await server.call('GET', '/stats/history?range=2h')
    expect([bad.status, bad.body.errors[0].path]).toEqual([400, 'range'])
  })

  it('counts tasks of all types, or of one, and is typed in the client', async () => {
    const client = createClient<typeof handlers>(server.url)
    const sumOf = async (type?: 'good' | 'bad') => {
      const { slots } = await client.history({ range: '24h', ...(type && { type }) })
      const sum = { submitted: 0, started: 0, success: 0, failed: 0, errors: 0 }
      for (const slot of slots) for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += slot[name]
      return sum
    }
    const read = async () => {
      expect(await sumOf()).toEqual({ submitted: 3, started: 3, success: 2, failed: 1, errors: 1 })
      expect(await sumOf('good')).toEqual({ submitted: 2, started: 2, success: 2, failed: 0, errors: 0 })
      expect(await sumOf('bad')).toEqual({ submitted: 1, started: 1, success: 0, failed: 1, errors: 1 })
    }
    await vi.waitFor(read, { timeout: 20_000 })
    const { slots } = await client.history()
    expect(slots[0]).toMatchObject({ at: expect.any(Date), submitted: 0, wait: null })
    expect(slots.find(({ started }) => started > 0)).toMatchObject({ wait: { p50: expect.any(Number) } })
  })

  it('survives a restart of the server', async () => {
    const flags = { engine: `sqlite:${join(temporaryFolder(), 'x.db')}` }
    const first = await startServer(flags, handlers)
    await first.submit('good')
    await first.stop()
    const { body } = await (await startServer(flags, handlers)).call('GET', '/stats/history?range=30d&type=good')
    expect(body.slots.reduce((sum: number, { submitted }: { submitted: number }) => sum + submitted, 0)).toBe(1)
  })

  it('belongs to a tenant only for types that no other tenant uses', async () => {
    const keyed = await startServer({ auth: 'keys' }, handlers)
    const reader = async (bounds: { types: string[] | null; groups: string[] | null }) =>
      keyed.as(await keyed.key(['read'], { bounds }))
    const own = await reader({ types: ['good'], groups: null })
    expect((await own.get('/stats/history?type=good')).status).toBe(200)
    expect((await own.get('/stats/history?type=bad')).status).toBe(403)
    expect((await own.get('/stats/history')).status).toBe(403)
    const group = await reader({ types: ['good'], groups: ['acme'] })
    expect((await group.get('/stats/history?type=good')).status).toBe(403)
  })
})
