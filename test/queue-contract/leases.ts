import { describe, expect, it } from 'vitest'
import { QUEUE_DEFAULTS } from '../../src/queue/queue.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { type Fixture, WORKER } from './fixture.ts'

const GRACE_MS = QUEUE_DEFAULTS.cancelGraceMs
const OTHER = { ...WORKER, id: 'w2' }

export function leasesContract(fixture: Fixture): void {
  const { submit, claim, succeed, get, limit } = fixture
  const renew = async (...leases: string[]) => {
    const renewals = leases.map((lease) => ({ lease }))
    return (await fixture.queue.turn({ worker: WORKER, want: 0, renewals })).renewed
  }
  const sweep = () => fixture.queue.sweep(100)

  describe('leases', () => {
    it.each<[string, Partial<TaskSpec>, number, number]>([
      ['the end of the lease', {}, 7_000, 7_000],
      ['the end of the lease, which comes first', { processTimeoutMs: 9_000 }, 7_000, 7_000],
      ['the deadline of the attempt', { processTimeoutMs: 500 }, 7_000, 500],
      ['the deadline, also without a wait', { processTimeoutMs: 500, queueTimeoutMs: 0 }, 7_000, 500],
    ])('are due at %s, and not before', async (_, spec, leaseMs, dueMs) => {
      const { id } = await submit({ maxRetry: 0, ...spec })
      await fixture.queue.turn({ worker: WORKER, want: 1, leaseMs })
      const dueAt = fixture.now + dueMs
      expect((await sweep()).nextAt).toBe(dueAt)
      fixture.now = dueAt - 1
      await sweep()
      expect((await get(id)).status).toBe('processing')
      fixture.now = dueAt
      await sweep()
      expect((await get(id)).status).toBe(dueMs < leaseMs ? 'timeout' : 'pending')
    })

    it('are due at the end of the grace of the first cancel, if nothing ends them before', async () => {
      const [first, second] = [await submit({ processTimeoutMs: 0 }), await submit({ processTimeoutMs: 0 })]
      await fixture.queue.turn({ worker: WORKER, want: 2, leaseMs: 60_000 })
      await fixture.queue.cancel({ ids: [first.id] })
      const dueAt = fixture.now + GRACE_MS
      fixture.now += 100
      await fixture.queue.cancel({ ids: [first.id, second.id] })
      expect((await sweep()).nextAt).toBe(dueAt)
      fixture.now = dueAt - 1
      await sweep()
      expect((await get(first.id)).status).toBe('processing')
      fixture.now = dueAt
      await sweep()
      expect([(await get(first.id)).status, (await get(second.id)).status]).toEqual(['canceled', 'processing'])
    })

    it('are not given to tasks whose wait has ended, however many these are', async () => {
      await fixture.queue.submit(Array.from({ length: 1_001 }, () => completeSpec({ type: 't', queueTimeoutMs: 700 })))
      fixture.now += 700
      expect(await claim(10)).toEqual([])
      while ((await fixture.queue.sweep(1_000)).more);
      expect((await fixture.queue.stats()).counts).toMatchObject({ timeout: 1_001, pending: 0, processing: 0 })
    })

    it('are settled in one step each, and a second outcome of one is refused', async () => {
      for (let index = 0; index < 3; index++) await submit({ maxRetry: 0 })
      const [a, b, c] = (await claim(3)).map(({ lease }) => lease)
      const success = { kind: 'success', result: 1 } as const
      const failure = { kind: 'failure', error: 'no', retry: false, delayMs: null } as const
      const outcomes = [
        { lease: a!, outcome: success },
        { lease: 'none.1', outcome: success },
        { lease: b!, outcome: failure },
        { lease: a!, outcome: failure },
        { lease: c!, outcome: { kind: 'released' } as const },
      ]
      const { settled } = await fixture.queue.turn({ worker: WORKER, want: 0, outcomes })
      expect(settled).toEqual([
        { accepted: true, status: 'success' },
        { accepted: false, status: null },
        { accepted: true, status: 'failed' },
        { accepted: false, status: null },
        { accepted: true, status: 'pending' },
      ])
      expect((await fixture.queue.stats()).counts).toMatchObject({ success: 1, failed: 1, pending: 1, processing: 0 })
    })

    it('are renewed in order, also by another process, until they have ended', async () => {
      const second = await fixture.opened.second()
      for (let index = 0; index < 2; index++) await submit()
      const [a, b] = (await claim(2)).map(({ lease }) => lease)
      fixture.now += 300
      const held = { expiresAt: fixture.now + 1_000, cancelRequested: false }
      expect(await renew(a!, 'none.1', '', b!)).toEqual([held, null, null, held])
      const renewals = [{ lease: b! }]
      expect((await second.turn({ worker: WORKER, want: 0, renewals })).renewed).toEqual([held])
      await succeed(a!)
      expect(await renew(a!, b!)).toEqual([null, held])
    })

    it('ask their own worker once to stop, and say so with each renewal', async () => {
      const ids = [await submit(), await submit()].map(({ id }) => id)
      const [own] = await claim(1)
      const [others] = await claim(1, OTHER)
      await fixture.queue.cancel({ ids })
      const asked = async (worker: typeof WORKER) => (await fixture.queue.turn({ worker, want: 0 })).cancelRequested
      expect([await asked(WORKER), await asked(OTHER)]).toEqual([[own!.lease], [others!.lease]])
      expect([await asked(WORKER), await asked(OTHER)]).toEqual([[], []])
      expect(await renew(own!.lease)).toMatchObject([{ cancelRequested: true }])
      expect(await succeed(own!.lease)).toEqual({ accepted: false, status: 'canceled' })
    })

    it('are shown as holders of a type, oldest first, with their worker, their times and their group', async () => {
      await limit('t', 5)
      const [first, second] = [await submit({ group: 'a' }), await submit()]
      await fixture.queue.submit([completeSpec({ type: 'u' })])
      const one = await fixture.queue.turn({ worker: WORKER, want: 1, types: ['t'] })
      fixture.now += 10
      const two = await fixture.queue.turn({ worker: OTHER, want: 2, types: ['t', 'u'] })
      const ids = [...one.leases, ...two.leases].filter(({ task }) => task.type === 't').map(({ task }) => task.id)
      expect(ids.sort()).toEqual([first.id, second.id].sort())
      const [info] = await fixture.queue.types({ names: ['t'], holders: true })
      const groupOf = (id: string) => (id === first.id ? 'a' : null)
      const [oldest, latest] = [one.leases[0]!.task, two.leases.find(({ task }) => task.type === 't')!.task]
      expect(info!.holders).toMatchObject([
        {
          taskId: oldest.id,
          workerId: 'w1',
          since: fixture.now - 10,
          expiresAt: fixture.now + 990,
          group: groupOf(oldest.id),
        },
        {
          taskId: latest.id,
          workerId: 'w2',
          since: fixture.now,
          expiresAt: fixture.now + 1_000,
          group: groupOf(latest.id),
        },
      ])
      expect(info!.processing).toBe(2)
    })

    it('count for the worker that holds them', async () => {
      for (let index = 0; index < 3; index++) await submit()
      const [lease] = await claim(1)
      await claim(2, OTHER)
      const running = async () => (await fixture.queue.workers()).map(({ id, running }) => [id, running])
      expect(await running()).toEqual([
        ['w1', 1],
        ['w2', 2],
      ])
      await succeed(lease!.lease)
      expect(await running()).toEqual([
        ['w1', 0],
        ['w2', 2],
      ])
    })

    it('that are over but not yet swept may still be settled and renewed', async () => {
      const ids = [await submit(), await submit()].map(({ id }) => id)
      const [a, b] = (await claim(2)).map(({ lease }) => lease)
      fixture.now += 5_000
      expect(await succeed(a!)).toEqual({ accepted: true, status: 'success' })
      expect(await renew(b!)).toEqual([{ expiresAt: fixture.now + 1_000, cancelRequested: false }])
      await sweep()
      expect([(await get(ids[0]!)).status, (await get(ids[1]!)).status]).toEqual(['success', 'processing'])
    })

    it('end in bounded steps, and the next sweep continues', async () => {
      for (let index = 0; index < 5; index++) await submit()
      await claim(5)
      fixture.now += 1_000
      expect((await fixture.queue.sweep(2)).more).toBe(true)
      while ((await fixture.queue.sweep(2)).more);
      expect((await fixture.queue.stats()).counts).toMatchObject({ processing: 0, pending: 5 })
    })
  })
}
