import { describe, expect, it } from 'vitest'
import { type Fixture, WORKER } from './fixture.ts'

export function typesContract(fixture: Fixture): void {
  const { limit, submit, claim, succeed } = fixture

  describe('types', () => {
    it('counts waiting and running tasks, and lists holders and live workers on request', async () => {
      await limit('t', 1)
      await submit({ delayMs: 50 })
      const { id } = await submit()
      await submit()
      await claim(9)
      const [info] = await fixture.queue.types({ names: ['t'], holders: true })
      expect(info).toMatchObject({ type: 't', pending: 2, delayed: 1, processing: 1, maxConcurrency: 1, workers: 1 })
      expect(info!.holders).toMatchObject([{ taskId: id, workerId: WORKER.id }])
      expect((await fixture.queue.types()).map(({ type }) => type)).toEqual(['t', 'u'])
    })

    it('lists an unknown type while it has stored tasks', async () => {
      await fixture.opened.cleanup()
      await fixture.start({ typeTtlMs: 1_000 })
      await submit()
      await succeed((await claim())[0]!.lease)
      fixture.now += 2_000
      expect(await fixture.queue.types()).toMatchObject([{ type: 't', pending: 0, processing: 0 }])
    })
  })
}
