import { describe, expect, it } from 'vitest'
import { type Stage, WORKER } from './stage.ts'

export function closeContract(stage: Stage): void {
  const { submit } = stage

  describe('close', () => {
    it('ends waiting turns and readers with empty answers, and refuses what comes after', async () => {
      const { last } = await stage.queue.events({ after: null, max: 1 })
      const turn = stage.queue.turn({ worker: WORKER, want: 1, waitMs: 20_000 })
      const events = stage.queue.events({ after: last, max: 1, waitMs: 20_000 })
      await stage.queue.close()
      expect((await turn).leases).toEqual([])
      expect((await events).events).toEqual([])
      await expect(submit()).rejects.toMatchObject({ code: 'shutting_down' })
      await expect(stage.queue.get(['x'])).rejects.toMatchObject({ code: 'shutting_down' })
    })
  })
}
