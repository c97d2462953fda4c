import { beforeAll, describe, expect, it } from 'vitest'
import type { Bounds } from '../../src/task/bounds.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'
import { type Server, startServer } from '../fixtures/server.ts'

let redis: RunningRedis
beforeAll(async () => {
  redis = await startRedis()
})

describe.each(['SQLite', 'Redis'])('two keys whose workers have the same worker_id, on %s', (store) => {
  let guarded: Server
  beforeAll(async () => {
    guarded = await startServer({
      auth: 'keys',
      ...(store === 'Redis' ? { engine: `${redis.url}?prefix=workers` } : {}),
    })
  })

  it.each([
    ['no bounds', null, null],
    ['separate bounds', 'acme', 'rival'],
  ])('are two workers, with %s: neither sees, ends or replaces the other', async (name, oneGroup, otherGroup) => {
    const type = `shared-${name.length}`
    await guarded.queue.configureType(type, { declared: true })
    const boundsOf = (group: string | null): Bounds | null => (group ? { types: null, groups: [group] } : null)
    const all = await guarded.key(['submit', 'read'])
    const keys = [
      await guarded.key(['work'], { name: `one-${type}`, bounds: boundsOf(oneGroup) }),
      await guarded.key(['work'], { name: `other-${type}`, bounds: boundsOf(otherGroup) }),
    ]
    for (const group of [oneGroup, otherGroup]) {
      const task = { type, ...(group ? { group } : {}) }
      expect((await guarded.as(all).call('POST', '/tasks', task)).status).toBe(201)
    }
    const take = async (key: string) =>
      (await guarded.as(key).call('POST', '/tasks/consume', { types: [type], worker_id: 'same' })).body.leases
    const [[first], [second]] = [await take(keys[0]!), await take(keys[1]!)]
    expect(first.task.id).not.toBe(second.task.id)

    const listed = (await guarded.as(all).call('GET', '/workers')).body.workers
    const own = listed.filter(({ types }: { types: string[] }) => types.includes(type))
    expect(new Set(own.map(({ id }: { id: string }) => id)).size).toBe(2)
    expect(own.map(({ running }: { running: number }) => running)).toEqual([1, 1])
    for (const { id } of own) expect(id).toMatch(/(^|:)(one|other)-.*\/same$/)

    // A cancel is passed on to the worker that runs the task alone.
    await guarded.as(all).call('DELETE', `/tasks/${first.task.id}`)
    const beat = async (key: string, lease: string) =>
      (await guarded.as(key).call('POST', `/leases/${lease}/heartbeat`, {})).body.cancel_requested
    expect(await beat(keys[0]!, first.lease)).toBe(true)
    expect(await beat(keys[1]!, second.lease)).toBe(false)
    const done = await guarded.as(keys[1]!).call('POST', `/leases/${second.lease}/complete`, { result: 1 })
    expect(done.body.status).toBe('success')
    const task = (await guarded.as(all).call('GET', `/tasks/${second.task.id}`)).body
    expect(task.worker_id).toMatch(/other-.*\/same$/)
  })

  it('leaves room for new types of other keys, however many one key names', async () => {
    const [greedy, other, admin] = [
      await guarded.key(['work']),
      await guarded.key(['work']),
      await guarded.key(['admin']),
    ]
    const name = (key: string, mark: string, from: number, count: number) => {
      const types = Array.from({ length: count }, (_, index) => `${mark}-${from + index}`)
      return guarded.as(key).call('POST', '/tasks/consume', { types })
    }
    const answers = await Promise.all([0, 30, 60, 90].map((from) => name(greedy, 'greedy', from, 30)))
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 409])
    const refused = answers.find(({ status }) => status === 409)!
    expect(refused.body).toMatchObject({ code: 'too_many_types' })
    expect(refused.body.detail).toContain('has created 90 task types, and its workers can create 10 more')
    expect(refused.body.detail).toContain('so none of the 30 new types of this call is created')
    const atOnce = (await name(await guarded.key(['work']), 'many', 0, 100)).status
    expect(atOnce).toBe(200)
    expect((await name(greedy, 'greedy', 200, 10)).status).toBe(200)
    expect((await name(greedy, 'greedy', 210, 1)).status).toBe(409)
    // Its existing types continue, and so do those of others.
    expect((await name(greedy, 'greedy', 200, 10)).status).toBe(200)
    expect((await name(other, 'other', 0, 100)).status).toBe(200)
    for (const from of [0, 100]) expect((await name(admin, 'admin', from, 100)).status).toBe(200)
  })
})
