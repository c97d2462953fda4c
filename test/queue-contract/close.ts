import { describe, expect, it } from 'vitest'
import { type Fixture, WORKER } from './fixture.ts'

export function closeContract(fixture: Fixture): void {
  const { submit } = fixture

  describe('close', () => {
    it('ends waiting turns and readers with empty answers, and refuses later calls', async () => {
      const { last } = await fixture.queue.events({ after: null, max: 1 })
      const turn = fixture.queue.turn({ worker: WORKER, want: 1, waitMs: 20_000 })
      const events = fixture.queue.events({ after: last, max: 1, waitMs: 20_000 })
      await fixture.queue.close()
      expect((await turn).leases).toEqual([])
      expect((await events).events).toEqual([])
      await expect(submit()).rejects.toMatchObject({ code: 'shutting_down' })
      await expect(fixture.queue.get(['x'])).rejects.toMatchObject({ code: 'shutting_down' })
    })
  })
}
