import { describe, expect, it } from 'vitest'
import type { Stage } from './stage.ts'

export function retryContract(stage: Stage): void {
  const { submit, claim, succeed, fail } = stage

  describe('retry', () => {
    it('retries with attempts from 0 and a fence that was never used before', async () => {
      const { id } = await submit({ maxRetry: 0 })
      const [first] = await claim()
      await fail(first!.lease)
      expect((await stage.engine.retry({ ids: [id] })).results[0]!.task).toMatchObject({
        status: 'pending',
        attempts: 0,
        error: null,
        completedAt: null,
      })
      const [second] = await claim()
      expect(second!.lease).not.toBe(first!.lease)
      expect((await fail(first!.lease)).status).toBeNull()
      await succeed(second!.lease)
      expect((await stage.engine.retry({ ids: [id] })).results[0]!.outcome).toBe('refused')
    })
  })
}
