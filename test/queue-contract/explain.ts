import { describe, expect, it } from 'vitest'
import { completeSpec } from '../../src/task/task.ts'
import { type Fixture, WORKER } from './fixture.ts'

export function explainContract(fixture: Fixture): void {
  const { submit, claim, succeed } = fixture

  describe('explain', () => {
    it('explains why a task is not running', async () => {
      const reason = async (id: string) => (await fixture.queue.explain(id))!.reason
      const one = await submit()
      expect(await reason(one.id)).toBe('no_worker')
      await claim(0)
      expect(await reason(one.id)).toBe('ready')
      const two = await submit()
      expect(await fixture.queue.explain(two.id)).toMatchObject({ reason: 'behind', ahead: 1 })
      await fixture.queue.configureType('t', { maxConcurrency: 1 })
      const [lease] = await claim()
      expect(await reason(one.id)).toBe('running')
      expect(await fixture.queue.explain(two.id)).toMatchObject({
        reason: 'limit_reached',
        holders: [{ taskId: one.id }],
      })
      await fixture.queue.configureType('t', { paused: true })
      expect(await reason(two.id)).toBe('paused')
      expect(await reason((await submit({ delayMs: 9 })).id)).toBe('delayed')
      await succeed(lease!.lease)
      expect(await reason(one.id)).toBe('finished')
      expect(await fixture.queue.explain('none')).toBeNull()
    })

    it('names limits only in the way of a task that is ready', async () => {
      const { id } = await submit()
      await claim()
      const ready = await submit()
      const others = [id, (await submit({ delayMs: 9 })).id, (await submit({ after: [id] })).id]
      const limitsOf = async (one: string) => (await fixture.queue.explain(one))!.limits.map(({ reason }) => reason)
      await fixture.queue.configureType('t', { paused: true })
      expect(await limitsOf(ready.id)).toEqual(['paused'])
      for (const other of others) expect(await limitsOf(other)).toEqual([])
    })

    it('names only the running tasks that use the named limit as its holders', async () => {
      for (const name of ['gpu', 'api']) await fixture.queue.configureLimit(name, { max: 1 })
      const [, gpu, waiting] = [
        await submit({ uses: { api: 1 } }),
        await submit({ uses: { gpu: 1 } }),
        await submit({ uses: { gpu: 1 } }),
      ]
      await claim(3)
      const { limits } = (await fixture.queue.explain(waiting.id))!
      expect(limits.map(({ name, holders }) => [name, holders.map(({ taskId }) => taskId)])).toEqual([
        ['gpu', [gpu.id]],
      ])
    })

    it('counts the tasks that run before one, also those that were given back', async () => {
      const ids: string[] = []
      for (const group of [null, null, null, 'g', null]) ids.push((await submit({ group })).id)
      const outcomes = (await claim(3)).map(({ lease }) => ({ lease, outcome: { kind: 'released' } as const }))
      await fixture.queue.turn({ worker: WORKER, want: 0, outcomes })
      const ahead = new Map<string, number>()
      for (const id of ids) ahead.set(id, (await fixture.queue.explain(id))!.ahead)
      const order = (await claim(9)).map(({ task }) => task.id)
      expect(order.map((id) => ahead.get(id))).toEqual([0, 1, 2, 3, 4])
    })

    it('reports a reached limit that is larger than the list of holders', async () => {
      await fixture.limit('t', 1_001)
      const specs = Array.from({ length: 1_002 }, () => completeSpec({ type: 't' }))
      await fixture.queue.submit(specs)
      const leases = [...(await claim(600)), ...(await claim(600))]
      expect(leases).toHaveLength(1_001)
      const [waiting] = (await fixture.queue.list({ status: 'pending', limit: 1 })).tasks
      const { reason, holders, until } = (await fixture.queue.explain(waiting!.id))!
      expect([reason, holders.length, until]).toEqual(['limit_reached', 1_000, fixture.now + 1_000])
    })
  })
}
