import { describe, expect, it } from 'vitest'
import type { Stage } from './stage.ts'

export function listContract(stage: Stage): void {
  const { submit } = stage

  describe('list', () => {
    it('lists newest first, and pending ones in the order they will run, page by page', async () => {
      const ids: string[] = []
      for (const spec of [{}, { priority: 5 }, { delayMs: 50 }, { type: 'u' }]) ids.push((await submit(spec)).id)
      const all = async (query: object) => {
        const found: string[] = []
        let cursor: string | undefined
        do {
          const page = await stage.engine.list({ ...query, limit: 1, ...(cursor ? { cursor } : {}) })
          found.push(...page.tasks.map(({ id }) => id))
          cursor = page.nextCursor ?? undefined
        } while (cursor)
        return found
      }
      expect(await all({})).toEqual([...ids].reverse())
      expect(await all({ status: 'pending' })).toEqual([1, 0, 3, 2].map((index) => ids[index]))
      expect(await all({ type: 'u' })).toEqual([ids[3]])
      await expect(stage.engine.list({ limit: 1, cursor: 'rubbish' })).rejects.toMatchObject({ code: 'invalid_cursor' })
    })
  })
}
