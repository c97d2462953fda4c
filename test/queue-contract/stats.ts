import { describe, expect, it } from 'vitest'
import type { Fixture } from './fixture.ts'

export function statsContract(fixture: Fixture): void {
  const { submit, claim, fail } = fixture

  describe('stats', () => {
    it('counts every task under its status at each transition', async () => {
      const counts = async () => (await fixture.queue.stats()).counts
      const { id } = await submit({ maxRetry: 0 })
      await submit({ delayMs: 50 })
      expect(await fixture.queue.stats()).toMatchObject({ counts: { pending: 2, processing: 0 }, delayed: 1 })
      const { lease } = (await claim())[0]!
      expect(await counts()).toMatchObject({ pending: 1, processing: 1 })
      await fail(lease)
      expect(await counts()).toMatchObject({ pending: 1, processing: 0, failed: 1 })
      await fixture.queue.retry({ ids: [id] })
      expect(await counts()).toMatchObject({ pending: 2, failed: 0 })
      await fixture.queue.cancel({ filter: {} })
      expect(await counts()).toMatchObject({ pending: 0, canceled: 2 })
    })
  })
}
