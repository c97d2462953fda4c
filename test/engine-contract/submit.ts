import { describe, expect, it } from 'vitest'
import { completeSpec } from '../../src/task/task.ts'
import type { Stage } from './stage.ts'

export function submitContract(stage: Stage): void {
  const { start, submit, get } = stage

  describe('submit', () => {
    it('accepts a task that anyone then sees', async () => {
      const task = await submit({ payload: { a: [1, 'é', null] }, tags: { k: 'v' }, priority: 3 })
      expect(await get(task.id)).toEqual(task)
      expect(task).toMatchObject({
        status: 'pending',
        attempts: 0,
        deliveries: 0,
        runAt: stage.now,
        createdAt: stage.now,
      })
    })

    it('refuses unknown types with the index of each, and accepts none of the batch', async () => {
      const specs = ['t', 'nope', 't', 'nah'].map((type) => completeSpec({ type }))
      await expect(stage.engine.submit(specs)).rejects.toMatchObject({
        code: 'unknown_type',
        details: {
          registered_types: ['t', 'u'],
          errors: [{ path: 'tasks[1].type' }, { path: 'tasks[3].type' }],
        },
      })
      expect((await stage.engine.stats()).counts.pending).toBe(0)
    })

    it('answers the earlier task for a known key, also within one batch, and refuses another body', async () => {
      const spec = completeSpec({ type: 't', payload: 1, idempotencyKey: 'k' })
      const [one, two] = await stage.engine.submit([spec, spec])
      const [three] = await stage.engine.submit([spec])
      expect([one!.existing, two!.existing, three!.existing]).toEqual([false, true, true])
      expect(new Set([one!.task.id, two!.task.id, three!.task.id]).size).toBe(1)
      await expect(stage.engine.submit([completeSpec({ type: 't' }), { ...spec, payload: 2 }])).rejects.toMatchObject({
        code: 'idempotency_conflict',
      })
      expect((await stage.engine.stats()).counts.pending).toBe(1)
    })

    it('refuses what a full queue cannot take, whole', async () => {
      await stage.opened.cleanup()
      await start({ pendingMax: 2 })
      await submit()
      const two = [completeSpec({ type: 't' }), completeSpec({ type: 't' })]
      await expect(stage.engine.submit(two)).rejects.toMatchObject({ code: 'queue_full' })
      await submit()
      expect((await stage.engine.stats()).counts.pending).toBe(2)
    })
  })
}
