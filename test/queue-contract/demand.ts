import { describe, expect, it } from 'vitest'
import { type Fixture, WORKER } from './fixture.ts'

/** The demand for workers: tasks that run, and those that could start now if there were workers. */
export function demandContract(fixture: Fixture): void {
  const { limit, submit, claim, succeed } = fixture

  const runnable = async (type = 't') => (await fixture.queue.types({ names: [type], demand: true }))[0]!.runnable

  describe('the runnable tasks of a type', () => {
    it('are those that run and those that are ready', async () => {
      for (let index = 0; index < 4; index++) await submit({ group: index % 2 ? 'a' : null })
      await submit({ delayMs: 5_000 })
      const first = await submit()
      await submit({ after: [first.id] })
      expect(await runnable()).toBe(5)
      await claim(2)
      expect(await runnable()).toBe(5)
      expect((await fixture.queue.stats({ demand: true })).runnable).toBe(5)
      expect((await fixture.queue.stats()).runnable).toBeNull()
      expect((await fixture.queue.types({ names: ['t'] }))[0]!.runnable).toBeNull()
    })

    it('are no more than the limit of the type allows', async () => {
      await limit('t', 3)
      for (let index = 0; index < 9; index++) await submit()
      expect(await runnable()).toBe(3)
      const [lease] = await claim(2)
      expect(await runnable()).toBe(3)
      await limit('t', 1)
      expect(await runnable()).toBe(2)
      await succeed(lease!.lease)
      expect(await runnable()).toBe(1)
    })

    it('are no more than its rate allows', async () => {
      await limit('t', null, { rate: { max: 4, perMs: 10_000 } })
      for (let index = 0; index < 9; index++) await submit()
      expect(await runnable()).toBe(4)
      const leases = await claim(3)
      for (const { lease } of leases) await succeed(lease)
      expect(await runnable()).toBe(1)
      fixture.now += 10_000
      expect(await runnable()).toBe(4)
    })

    it('are no more than the limits of its groups allow', async () => {
      await limit('t', null, { groupConcurrency: 2 })
      for (const group of ['a', 'a', 'a', 'a', 'b', null, null, null]) await submit({ group })
      expect(await runnable()).toBe(6)
      await claim(9)
      expect(await runnable()).toBe(6)
      await submit({ group: 'a' })
      expect(await runnable()).toBe(6)
      await submit({ group: 'b' })
      expect(await runnable()).toBe(7)
    })

    it('are only those that run while it is paused or held', async () => {
      for (let index = 0; index < 4; index++) await submit()
      await claim(1)
      await fixture.queue.configureType('t', { paused: true })
      expect(await runnable()).toBe(1)
      await fixture.queue.configureType('t', { paused: false, holdMs: 5_000 })
      expect(await runnable()).toBe(1)
      fixture.now += 5_000
      expect(await runnable()).toBe(4)
    })
  })

  describe('an autoscaler that follows them', () => {
    const TASKS_PER_WORKER = 2

    it('keeps the workers of running tasks, adds none for a backlog behind a limit, and ends with none', async () => {
      await limit('t', 4)
      for (let index = 0; index < 20; index++) await submit({ group: index % 3 ? `g${index % 3}` : null })
      const running = new Map<string, string[]>()
      const scale = async () => {
        const wanted = Math.ceil((await runnable())! / TASKS_PER_WORKER)
        for (let index = running.size; index < wanted; index++) running.set(`pod-${index}`, [])
        // A scale-down drains: a worker leaves when its tasks have ended.
        for (const [id, leases] of [...running].slice(wanted)) if (leases.length === 0) running.delete(id)
        return wanted
      }
      const work = async () => {
        for (const [id, leases] of running) {
          const want = TASKS_PER_WORKER - leases.length
          const turn = await fixture.queue.turn({ worker: { ...WORKER, id, concurrency: TASKS_PER_WORKER }, want })
          leases.push(...turn.leases.map(({ lease }) => lease))
        }
      }
      const finish = async (count: number) => {
        for (const leases of running.values()) {
          for (const lease of leases.splice(0, count)) await succeed(lease)
        }
      }
      expect(await scale()).toBe(2)
      await work()
      // All permits are held: the backlog adds no worker, and the running tasks keep theirs.
      expect(await scale()).toBe(2)
      await limit('t', 8)
      expect(await scale()).toBe(4)
      await work()
      await fixture.queue.configureType('t', { paused: true })
      expect(await scale()).toBe(4)
      await finish(1)
      expect(await scale()).toBe(2)
      expect(running.size).toBe(4)
      await finish(1)
      expect(await scale()).toBe(0)
      expect(running.size).toBe(0)
      await fixture.queue.configureType('t', { paused: false })
      for (let round = 0; (await scale()) > 0; round++) {
        expect(round).toBeLessThan(9)
        await work()
        await finish(TASKS_PER_WORKER)
      }
      expect((await fixture.queue.stats()).counts).toMatchObject({ pending: 0, processing: 0, success: 20 })
    })
  })
}
