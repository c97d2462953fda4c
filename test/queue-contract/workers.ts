import { describe, expect, it } from 'vitest'
import { type Stage, WORKER } from './stage.ts'

export function workersContract(stage: Stage): void {
  const { submit, claim } = stage

  describe('workers', () => {
    it('lists workers and their leave', async () => {
      await submit()
      await claim()
      expect(await stage.queue.workers()).toMatchObject([{ id: 'w1', running: 1, types: ['t', 'u'] }])
      await stage.queue.turn({ worker: WORKER, want: 0, leaving: true })
      expect(await stage.queue.workers()).toEqual([])
    })
  })
}
