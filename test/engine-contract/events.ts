import { describe, expect, it } from 'vitest'
import type { Stage } from './stage.ts'

export function eventsContract(stage: Stage): void {
  const { start, submit, claim, succeed } = stage

  describe('events', () => {
    it('tells each change once, in order, to a reader that waits or resumes', async () => {
      const { last } = await stage.engine.events({ after: null, max: 10 })
      const waiting = stage.engine.events({ after: last, max: 10, waitMs: 20_000 })
      const { id } = await submit()
      expect((await waiting).events.map(({ status }) => status)).toEqual(['pending'])
      await succeed((await claim())[0]!.lease, 5)
      const page = await stage.engine.events({ after: last, max: 10 })
      expect(page.events.map(({ taskId, status, result }) => [taskId, status, result])).toEqual([
        [id, 'pending', null],
        [id, 'processing', null],
        [id, 'success', 5],
      ])
      expect((await stage.engine.events({ after: page.events[1]!.id, max: 10 })).events).toHaveLength(1)
    })

    it('tells a reader that fell behind that events are gone', async () => {
      await stage.opened.cleanup()
      await start({ eventsMax: 5 })
      await submit()
      const [first] = (await stage.engine.events({ after: '', max: 1 })).events
      for (let index = 0; index < 20; index++) await submit()
      await stage.engine.sweep(1_000)
      expect((await stage.engine.events({ after: first!.id, max: 100 })).gap).toBe(true)
      expect((await stage.engine.events({ after: 'nowhere', max: 100 })).gap).toBe(true)
      expect((await stage.engine.events({ after: '', max: 100 })).gap).toBe(false)
      const { last } = await stage.engine.events({ after: null, max: 1 })
      expect((await stage.engine.events({ after: last, max: 1 })).gap).toBe(false)
    })
  })
}
