import { describe, expect, it } from 'vitest'
import type { Fixture } from './fixture.ts'

export function statsContract(fixture: Fixture): void {
  const { submit, claim, fail, succeed } = fixture

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

    it('has the throughput of about the last minute', async () => {
      for (let n = 1; n <= 3; n++) {
        await submit()
        const [lease] = await claim()
        await succeed(lease!.lease)
        fixture.now += 10_000
        await fixture.queue.sweep(100)
        expect((await fixture.queue.stats()).throughput).toBe(n / 60)
      }
      for (let n = 1; n <= 2; n++) {
        await submit({ type: 'u' })
        const [lease] = await claim()
        await succeed(lease!.lease)
        fixture.now += 2_000
        await fixture.queue.sweep(100)
      }
      const types = await fixture.queue.types({ names: ['t', 'u'] })
      expect(types.map(({ throughput }) => throughput * 60)).toEqual([3, 2])
      fixture.now += 120_000
      expect((await fixture.queue.stats()).throughput).toBe(0)
    })
  })
}
