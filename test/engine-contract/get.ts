import { describe, expect, it } from 'vitest'
import type { Stage } from './stage.ts'

export function getContract(stage: Stage): void {
  const { submit } = stage

  describe('get', () => {
    it('answers in the order asked for, with null where there is no such task', async () => {
      const [first, second] = [await submit({ payload: 1 }), await submit({ payload: 2 })]
      const found = await stage.engine.get([second.id, 'none', first.id])
      expect(found.map((task) => task?.payload)).toEqual([2, undefined, 1])
    })
  })
}
