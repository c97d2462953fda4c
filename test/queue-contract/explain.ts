import { describe, expect, it } from 'vitest'
import type { Stage } from './stage.ts'

export function explainContract(stage: Stage): void {
  const { submit, claim, succeed } = stage

  describe('explain', () => {
    it('explains why a task is not running', async () => {
      const reason = async (id: string) => (await stage.queue.explain(id))!.reason
      const one = await submit()
      expect(await reason(one.id)).toBe('no_worker')
      await claim(0)
      expect(await reason(one.id)).toBe('ready')
      const two = await submit()
      expect(await stage.queue.explain(two.id)).toMatchObject({ reason: 'behind', ahead: 1 })
      await stage.queue.configureType('t', { maxConcurrency: 1 })
      const [lease] = await claim()
      expect(await reason(one.id)).toBe('running')
      expect(await stage.queue.explain(two.id)).toMatchObject({
        reason: 'limit_reached',
        holders: [{ taskId: one.id }],
      })
      await stage.queue.configureType('t', { paused: true })
      expect(await reason(two.id)).toBe('paused')
      expect(await reason((await submit({ delayMs: 9 })).id)).toBe('delayed')
      await succeed(lease!.lease)
      expect(await reason(one.id)).toBe('finished')
      expect(await stage.queue.explain('none')).toBeNull()
    })
  })
}
