import { describe, expect, it } from 'vitest'
import type { Stage } from './stage.ts'

export function healthContract(stage: Stage): void {
  describe('health', () => {
    it('is healthy and says what an accepted task survives', async () => {
      const { checks, durability } = await stage.queue.health()
      expect(checks.every(({ ok }) => ok)).toBe(true)
      expect(durability).not.toBe('')
    })
  })
}
