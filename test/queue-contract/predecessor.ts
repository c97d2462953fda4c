import { describe, expect, it } from 'vitest'
import type { Lease } from '../../src/queue/queue.ts'
import { completeSpec, TASK_LIMITS, type TaskSpec } from '../../src/task/task.ts'
import type { Fixture } from './fixture.ts'

export function predecessorContract(fixture: Fixture): void {
  const { submit, claim, fail, get } = fixture
  const submitAll = async (...specs: Partial<TaskSpec>[]) => {
    const submitted = await fixture.queue.submit(specs.map((spec) => completeSpec({ type: 't', ...spec })))
    return submitted.map(({ task }) => task)
  }
  const settled = async () => {
    // In a cluster what two partitions tell each other takes a few steps.
    for (let step = 0; step < 5; step++) while ((await fixture.queue.sweep(100)).more);
  }

  describe('predecessor', () => {
    it('leaves out large results of predecessors, which the holder of the lease reads one by one', async () => {
      await fixture.opened.cleanup()
      await fixture.start({ retention: { ageMs: 1_000, countMax: 1_000 } })
      const texts = [...Array.from('abcd', (letter) => letter.repeat(400_000)), 'small']
      const before = await submitAll(...texts.map((payload): Partial<TaskSpec> => ({ payload, maxRetry: 0 })))
      const failing = await submit({ payload: null, maxRetry: 0 })
      const ids = [...before, failing].map(({ id }) => id)
      const join = await submit({ type: 'u', after: ids, onFailure: 'run' })
      for (const { task, lease } of await claim(6)) {
        const outcome = { kind: 'success', result: task.payload } as const
        if (task.payload === null) await fail(lease)
        else await fixture.queue.turn({ worker: fixture.worker, want: 0, outcomes: [{ lease, outcome }] })
      }
      await settled()
      fixture.now += 2_000
      await settled()
      expect(await get(ids[0]!)).toBeNull()
      const [{ lease, task, predecessors }] = (await claim()) as [Lease]
      expect(task.id).toBe(join.id)
      expect(predecessors.map(({ id }) => id)).toEqual(ids)
      const inline = predecessors.filter(({ omitted }) => !omitted)
      const bytes = inline.reduce((sum, { result }) => sum + String(result).length, 0)
      expect(bytes).toBeLessThanOrEqual(TASK_LIMITS.predecessorsBytesMax)
      expect(inline.map(({ result }) => result)).toEqual(expect.arrayContaining([texts[0], 'small', null]))
      const omitted = predecessors.filter((one) => one.omitted)
      const bare = { type: 't', status: 'success', result: null, error: null, omitted: true }
      expect(omitted).toContainEqual({ id: ids[3], ...bare })
      const read = async (id: string) => (await fixture.queue.predecessor(lease, id))!
      for (const [index, result] of texts.entries()) {
        expect(await read(ids[index]!)).toEqual({ id: ids[index], type: 't', status: 'success', result, error: null })
      }
      expect(await read(failing.id)).toMatchObject({ status: 'failed', result: null, error: 'no' })
      expect(await fixture.queue.predecessor(lease, join.id)).toBeNull()
      await fail(lease, { delayMs: 0 })
      const gone = fixture.queue.predecessor(lease, ids[0]!)
      await expect(gone).rejects.toMatchObject({ code: 'lease_lost' })
      const [again] = (await claim()) as [Lease]
      expect(again.predecessors).toEqual(predecessors)
      expect(await fixture.queue.predecessor(again.lease, ids[3]!)).toMatchObject({ result: texts[3] })
    })

    it('keeps long results for those that have not ended when another task is erased with what it had', async () => {
      const texts = ['a', 'b'].map((letter) => letter.repeat(5_000))
      const before = await submitAll(...texts.map((payload) => ({ payload })))
      const after = await submitAll(...before.map(({ id }) => ({ after: [id] })))
      const finish = async ({ task, lease }: Lease) => {
        const outcome = { kind: 'success', result: task.payload } as const
        await fixture.queue.turn({ worker: fixture.worker, want: 0, outcomes: [{ lease, outcome }] })
      }
      for (const lease of await claim(2)) await finish(lease)
      await settled()
      const leases = await claim(2)
      const [erased, kept] = after.map(({ id }) => leases.find(({ task }) => task.id === id)!)
      await finish(erased!)
      expect((await fixture.queue.erase([erased!.task.id])).results[0]).toMatchObject({ outcome: 'changed' })
      await settled()
      await fail(kept!.lease, { delayMs: 0 })
      const [again] = (await claim()) as [Lease]
      expect(again.predecessors).toMatchObject([{ id: before[1]!.id, status: 'success', result: texts[1] }])
    })

    it('keeps a long result for each task that has it until that one is removed', async () => {
      const [first] = await submitAll({ payload: 'x'.repeat(5_000) })
      const [{ task, lease: own }] = (await claim()) as [Lease]
      const after = await submitAll({ after: [first!.id] }, { after: [first!.id], priority: 1 })
      const outcome = { kind: 'success', result: task.payload } as const
      await fixture.queue.turn({ worker: fixture.worker, want: 0, outcomes: [{ lease: own, outcome }] })
      await settled()
      const [{ lease, task: early }] = (await claim()) as [Lease]
      await fail(lease, { retry: false })
      expect((await fixture.queue.erase([early.id])).results[0]).toMatchObject({ outcome: 'changed' })
      await settled()
      const [late] = (await claim()) as [Lease]
      expect([early.id, late.task.id]).toEqual([after[1]!.id, after[0]!.id])
      expect(late.predecessors).toMatchObject([{ id: first!.id, status: 'success', result: task.payload }])
    })
  })
}
