import { describe, expect, it } from 'vitest'
import { type Fixture, WORKER } from './fixture.ts'

export function workersContract(fixture: Fixture): void {
  const { submit, claim } = fixture

  describe('workers', () => {
    it('lists workers until they leave', async () => {
      await submit()
      await claim()
      expect(await fixture.queue.workers()).toMatchObject([{ id: 'w1', running: 1, types: ['t', 'u'] }])
      await fixture.queue.turn({ worker: WORKER, want: 0, leaving: true })
      expect(await fixture.queue.workers()).toEqual([])
    })
  })
}
