import { describe, expect, it } from 'vitest'
import type { Fixture } from './fixture.ts'

export function healthContract(fixture: Fixture): void {
  describe('health', () => {
    it('is healthy and reports the durability of an accepted task', async () => {
      const { checks, durability } = await fixture.queue.health()
      expect(checks.every(({ ok }) => ok)).toBe(true)
      expect(durability).not.toBe('')
    })
  })
}
