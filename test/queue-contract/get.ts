import { describe, expect, it } from 'vitest'
import { type Fixture, WORKER } from './fixture.ts'

export function getContract(fixture: Fixture): void {
  const { submit } = fixture

  describe('get', () => {
    it('returns tasks in the requested order, and null for an unknown one', async () => {
      const [first, second] = [await submit({ payload: 1 }), await submit({ payload: 2 })]
      const found = await fixture.queue.get([second.id, 'none', first.id])
      expect(found.map((task) => task?.payload)).toEqual([2, undefined, 1])
    })

    it('leaves out long fields of bare tasks', async () => {
      const waiting = await submit({
        payload: 'waiting',
        priority: 1,
        group: 'g',
        tags: { of: 'mine' },
        delayMs: 60_000,
      })
      const { id } = await submit({ payload: 'running' })
      const [lease] = await fixture.claim()
      const report = (progress: number | object) =>
        fixture.queue.turn({
          worker: WORKER,
          want: 0,
          renewals: [{ lease: lease!.lease, progress: progress as never }],
        })
      await report({ at: 'some place that is told of' })
      const look = async () => (await fixture.queue.get([id], { bare: true }))[0]
      expect(await look()).toMatchObject({ payload: null, progress: null, status: 'processing' })
      await report(50)
      expect(await look()).toMatchObject({ payload: null, progress: 50 })
      await fixture.succeed(lease!.lease)
      expect(await look()).toMatchObject({ id, type: 't', payload: null, result: null, error: null, status: 'success' })
      expect((await fixture.queue.get([waiting.id], { bare: true }))[0]).toEqual({ ...waiting, payload: null })
    })
  })
}
