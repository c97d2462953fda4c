import { describe, expect, it } from 'vitest'
import type { QueueOptions } from '../../src/queue/queue.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { type Fixture, WORKER } from './fixture.ts'

/** Tasks that one step of a store may inform of the end of another. */
const STEP = 1_000
const SUCCESSORS = 2_500
const GRANDCHILDREN = 50
const RETENTION = { ageMs: 60_000, countMax: 100_000 }

/** The ways in which a task with very many successors ends; they are canceled by it, or released. */
const ENDS = ['cancel', 'success', 'retention', 'erasure'] as const

/** A step that informed very many tasks of the end of one would delay every other call. */
export function cascadesContract(fixture: Fixture): void {
  const { start, submit, claim, succeed, fail, get } = fixture
  const submitAll = async (count: number, spec: (index: number) => Partial<TaskSpec>) => {
    const specs = Array.from({ length: count }, (_, index) => completeSpec({ type: 't', ...spec(index) }))
    return (await fixture.queue.submit(specs)).map(({ task }) => task.id)
  }
  const waiting = async (queue = fixture.queue) => (await queue.types({ names: ['t'] }))[0]!.dependent
  /** How many still wait, as other calls see it between the steps, until no more are informed. */
  const watch = async (end: number, { queue = fixture.queue, sweeps = true } = {}) => {
    const seen = new Set<number>()
    // Beside the sweeps: some of them take so long that other processes have gone on meanwhile.
    const sweeping = (async () => {
      while (sweeps && !seen.has(end)) {
        await queue.sweep(STEP)
        await new Promise((resolve) => setImmediate(resolve))
      }
    })()
    while (!seen.has(end)) {
      seen.add(await waiting(queue))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await sweeping
    return [...seen]
  }
  const restart = async (more: Partial<QueueOptions>) => {
    await fixture.opened.cleanup()
    await start(more)
  }

  describe('the end of a task with very many successors', () => {
    it.each(ENDS)('informs a bounded number of them per step: %s', async (how) => {
      await restart({ retention: RETENTION })
      const { id } = await submit({ maxRetry: 0 })
      const isRemoved = how === 'retention' || how === 'erasure'
      const children = await submitAll(SUCCESSORS, () => ({ after: [id], onFailure: isRemoved ? 'wait' : 'cancel' }))
      // These end by the end of those: they are informed in the last step.
      const more = isRemoved ? 0 : GRANDCHILDREN
      if (more > 0) await submitAll(more, (index) => ({ after: [children.at(-1 - index)!] }))
      const all = SUCCESSORS + more
      const end = how === 'success' ? more : 0
      const running = how === 'cancel' ? null : (await claim())[0]!
      if (isRemoved) {
        await fail(running!.lease)
        // Those that go on waiting are informed of a failure as well.
        while ((await fixture.queue.sweep(STEP)).more);
      }
      if (how === 'retention') fixture.now += RETENTION.ageMs + 1
      const done = {
        cancel: () => fixture.queue.cancel({ ids: [id] }),
        success: () => succeed(running!.lease, 7),
        retention: () => null,
        erasure: () => fixture.queue.erase([id]),
      }[how]()
      const seen = await watch(end, { sweeps: how !== 'erasure' })
      await done
      const steps = new Set([all, all - STEP, all - 2 * STEP, end])
      expect(seen.filter((left) => !steps.has(left))).toEqual([])
      expect(seen.some((left) => left < all && left > end)).toBe(true)
      const last = await get(children.at(-1)!)
      expect(last.status).toBe(how === 'success' ? 'pending' : 'canceled')
      if (isRemoved) {
        expect(last.error).toContain('no longer kept')
        expect((await fixture.queue.get([id]))[0]).toBeNull()
      }
      if (how === 'success') expect((await claim())[0]!.predecessors).toMatchObject([{ id, result: 7 }])
    })

    it('is continued by another process if the first one stops', async () => {
      const { id } = await submit()
      await submitAll(SUCCESSORS, () => ({ after: [id] }))
      await fixture.queue.cancel({ ids: [id] })
      const second = await fixture.opened.second()
      await watch(0, { queue: second })
      expect((await second.stats()).counts).toMatchObject({ pending: 0, canceled: SUCCESSORS + 1 })
    })

    it('informs each successor once although it is erased meanwhile', async () => {
      const { id } = await submit()
      await submitAll(SUCCESSORS, () => ({ after: [id] }))
      await fixture.queue.cancel({ ids: [id] })
      await fixture.queue.erase([id])
      await watch(0)
      while ((await fixture.queue.sweep(STEP)).more);
      expect((await fixture.queue.get([id]))[0]).toBeNull()
      expect((await fixture.queue.stats()).counts).toMatchObject({ pending: 0, canceled: SUCCESSORS })
    })

    it('informs all successors although retention removes it meanwhile', async () => {
      await restart({ retention: RETENTION })
      const { id } = await submit()
      const children = await submitAll(SUCCESSORS, () => ({ after: [id] }))
      const { lease } = (await claim())[0]!
      fixture.now += 1
      await fixture.queue.turn({
        worker: WORKER,
        want: 0,
        outcomes: [{ lease, outcome: { kind: 'success', result: 7 } }],
      })
      fixture.now += RETENTION.ageMs + 1
      await watch(0)
      expect((await fixture.queue.stats()).counts).toMatchObject({ canceled: 0, pending: SUCCESSORS })
      expect((await get(children.at(-1)!)).status).toBe('pending')
    })
  })
}
