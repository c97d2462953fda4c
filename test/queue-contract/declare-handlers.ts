import { describe, expect, it, vi } from 'vitest'
import type { HandlerSettings } from '../../src/queue/queue.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec } from '../../src/task/task.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
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

    it.each([1, 3])(
      'changes the back-off of %d types at once, also in a process that waits for tasks',
      async (count) => {
        const other = await fixture.opened.second()
        await other.turn({ worker: fixture.worker, want: 1, waitMs: 1 })
        vi.useFakeTimers({ toFake: ['Date'] })
        const began = Date.now()
        closeAfterwards(() => vi.useRealTimers())
        const declare = async (delayMs: number) => {
          const retry = { ...RETRY_DEFAULTS, baseMs: delayMs, jitter: 0 }
          const limits = { maxConcurrency: null, groupConcurrency: null, rate: null }
          const settings: HandlerSettings = { ...limits, retry, payloadSchema: null, defaults: {} }
          const types = ['t', 'u', 'v'].slice(0, count)
          await fixture.queue.declareHandlers(new Map(types.map((type) => [type, settings])))
        }
        const delayAfterFailure = async () => {
          // No time passes after which a back-off is read again in any case; `poll` lets it pass.
          vi.setSystemTime(began)
          const { id } = await fixture.submit({ maxRetry: 1 })
          const { leases } = await other.turn({ worker: fixture.worker, want: 1 })
          const outcome = { kind: 'failure', error: 'no', retry: true, delayMs: null } as const
          await other.turn({ worker: fixture.worker, want: 0, outcomes: [{ lease: leases[0]!.lease, outcome }] })
          return (await fixture.get(id)).runAt - fixture.now
        }
        await declare(1_000)
        await expect.poll(delayAfterFailure).toBe(1_000)
        await declare(2_000)
        await expect.poll(delayAfterFailure).toBe(2_000)
      },
    )
  })
}
