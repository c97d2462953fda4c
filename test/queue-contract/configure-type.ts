import { describe, expect, it } from 'vitest'
import type { Fixture } from './fixture.ts'

export function configureTypeContract(fixture: Fixture): void {
  const { limit, submit, claim, succeed } = fixture

  describe('configureType', () => {
    it('prefers the operator to the handler, also after the worker starts again', async () => {
      await limit('t', 5)
      await fixture.queue.configureType('t', { maxConcurrency: 2 })
      expect((await limit('t', 5)).maxConcurrency).toBe(2)
      await fixture.queue.configureType('t', { maxConcurrency: null })
      expect((await limit('t', 5)).maxConcurrency).toBeNull()
    })

    it('starts nothing new until the running tasks fit a lowered limit', async () => {
      for (let index = 0; index < 4; index++) await submit()
      const leases = await claim(3)
      await fixture.queue.configureType('t', { maxConcurrency: 2 })
      await succeed(leases[0]!.lease)
      expect(await claim()).toEqual([])
      await succeed(leases[1]!.lease)
      expect(await claim()).toHaveLength(1)
    })

    it('keeps ceilings for every process until each is removed, also when the handler is declared again', async () => {
      await fixture.queue.configureType('t', { ceilings: { maxRetry: 5, processTimeoutMs: 31_622_400_000 } })
      const changed = await fixture.queue.configureType('t', { ceilings: { priority: 0, maxRetry: null } })
      const ceilings = { priority: 0, processTimeoutMs: 31_622_400_000 }
      expect(changed.ceilings).toEqual(ceilings)
      expect((await limit('t', 5)).ceilings).toEqual(ceilings)
      const second = await fixture.opened.second()
      const [info, other] = await second.types({ names: ['t', 'u'] })
      expect([info!.ceilings, other!.ceilings]).toEqual([ceilings, {}])
    })

    it('loses no change that several processes make at the same moment', async () => {
      const other = await fixture.opened.second()
      for (let round = 1; round <= 20; round++) {
        await Promise.all([
          fixture.queue.configureType('t', { maxConcurrency: round }),
          other.configureType('t', { groupConcurrency: round }),
          limit('t', 99),
          other.configureType('t', { ceilings: { maxRetry: round } }),
          fixture.queue.configureType('t', { ceilings: { priority: round % 10 } }),
          other.configureType('t', { retention: { success: round } }),
        ])
        expect((await fixture.queue.types({ names: ['t'] }))[0]).toMatchObject({
          maxConcurrency: round,
          groupConcurrency: round,
          ceilings: { maxRetry: round, priority: round % 10 },
          retention: { set: { success: round } },
        })
      }
    })

    it('refuses a type that was not declared', async () => {
      await expect(fixture.queue.configureType('nope', { maxConcurrency: 1 })).rejects.toMatchObject({
        code: 'unknown_type',
      })
    })
  })
}
