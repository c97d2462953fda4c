import { describe, expect, it } from 'vitest'
import type { HandlerSettings } from '../../src/queue/queue.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec } from '../../src/task/task.ts'
import type { Fixture } from './fixture.ts'

export function declareHandlersContract(fixture: Fixture): void {
  describe('declareHandlers', () => {
    it('declares all handlers of a process in one call, each as if alone', async () => {
      const settings = (maxConcurrency: number): HandlerSettings => ({
        maxConcurrency,
        groupConcurrency: 2,
        rate: { max: 7, perMs: 1_000 },
        retry: RETRY_DEFAULTS,
        payloadSchema: { type: 'object' },
        defaults: { maxRetry: 9 },
      })
      await fixture.queue.configureType('t', { maxConcurrency: 2 })
      const many = Array.from({ length: 500 }, (_, index) => [`many-${index}`, settings(index + 1)] as const)
      await fixture.queue.declareHandlers(new Map([['t', settings(9)], ...many]))
      const names = ['t', 'many-0', 'many-499']
      const infos = await fixture.queue.types({ names })
      const limits = Object.fromEntries(infos.map(({ type, maxConcurrency }) => [type, maxConcurrency]))
      expect(limits).toEqual({ t: 2, 'many-0': 1, 'many-499': 500 })
      const { maxConcurrency: _, retry: __, ...rest } = settings(1)
      for (const info of infos) expect(info).toMatchObject(rest)
      const tasks = await fixture.queue.submit(many.map(([type]) => completeSpec({ type })))
      expect(new Set(tasks.map(({ task }) => task.id)).size).toBe(500)
      const worker = { ...fixture.worker, types: many.map(([type]) => type) }
      expect((await fixture.queue.turn({ worker, want: 600 })).leases).toHaveLength(500)
    })
  })
}
