import { describe, expect, it } from 'vitest'
import type { Lease, Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type Fixture, WORKER } from './fixture.ts'

/** The rotation of the groups of a type, and their limits. Payloads name the tasks: `a1` is of the group `a`. */
export function groupsContract(fixture: Fixture): void {
  const { limit, submit, claim, succeed, fail, get } = fixture

  const add = async (names: string, more: object = {}): Promise<string[]> => {
    const ids: string[] = []
    for (const name of names.split(' ')) {
      const group = name.startsWith('-') ? null : name[0]!
      ids.push((await submit({ payload: name, group, ...more })).id)
    }
    return ids
  }
  const names = (leases: readonly Lease[]) => leases.map(({ task }) => task.payload).join(' ')
  const next = async (want = 1) => names(await claim(want))

  describe('groups', () => {
    it('alternate, with the task that is ready longest first in each', async () => {
      await add('a1 a2 a3 b1 b2 c1')
      expect(await next(9)).toBe('a1 b1 c1 a2 b2 a3')
    })

    it('alternate from one claim to the next, also over several processes', async () => {
      const other = await fixture.opened.second()
      await add('a1 a2 a3 a4 b1 b2 c1')
      expect(await next()).toBe('a1')
      const { leases } = await other.turn({ worker: { ...WORKER, id: 'w2' }, want: 3 })
      expect(names(leases)).toBe('b1 c1 a2')
      expect(await next(9)).toBe('b2 a3 a4')
    })

    it('alternate with the tasks without a group', async () => {
      await add('-1 -2 -3 a1 a2 b1')
      expect(await next(2)).toBe('-1 a1')
      expect(await next(9)).toBe('b1 -2 a2 -3')
    })

    it('can be claimed by name, by priority, within the limits, and without a wait', async () => {
      await add('a1 b1 -1 a2 c1')
      await add('a3', { priority: 5 })
      const of = async (groups: string[], want = 9) => {
        const turn = { worker: { ...WORKER, id: 'w-groups' }, want, groups, waitMs: 60_000 }
        return names((await fixture.queue.turn(turn)).leases)
      }
      expect(await of(['z'])).toBe('')
      expect(await of(['a'], 2)).toBe('a3 a1')
      await limit('t', null, { groupConcurrency: 3 })
      await add('a4 a5')
      expect(await of(['a', 'c'])).toBe('a2 c1')
      expect(await of(['a', 'c'])).toBe('')
      expect(await next(9)).toBe('b1 -1')
    })

    it('can be claimed by name together, the highest priority of them first', async () => {
      await add('a1 b1')
      await add('b2', { priority: 5 })
      const turn = { worker: { ...WORKER, id: 'w-groups' }, want: 2, groups: ['a', 'b'] }
      expect(names((await fixture.queue.turn(turn)).leases)).toBe('b2 a1')
    })

    it('can be claimed by name together, no more than wanted and than the type allows', async () => {
      await add('a1 b1 b2 b3 c1 c2')
      const of = async (want: number) =>
        (await fixture.queue.turn({ worker: { ...WORKER, id: 'w-groups' }, want, groups: ['a', 'b', 'c'] })).leases
      const leases = await of(2)
      expect(names(leases)).toBe('a1 b1')
      await limit('t', 3)
      leases.push(...(await of(9)))
      expect(names(leases)).toBe('a1 b1 b2')
      for (const { lease } of leases) await succeed(lease)
      await limit('t', null, { rate: { max: 2, perMs: 1_000 } })
      expect(names(await of(9))).toBe('b3 c1')
      expect(names(await of(9))).toBe('')
      fixture.now += 1_000
      expect(names(await of(9))).toBe('c2')
      await add('a2 b4')
      await add('a3 b5', { type: 'u' })
      fixture.now += 1_000
      expect(await of(3)).toHaveLength(3)
      expect(await of(9)).toHaveLength(1)
    })

    it('alternate only within one priority', async () => {
      await add('a1 b1 -1 a2')
      await add('a3 a4 b2 -2', { priority: 5 })
      expect(await next(5)).toBe('a3 b2 -2 a4 a1')
      expect(await next(9)).toBe('b1 -1 a2')
    })

    it('start with a new group, however many wait, and then move it to the end', async () => {
      await add('a1 a2 a3 b1 b2 b3')
      expect(await next(2)).toBe('a1 b1')
      await add('c1 c2')
      expect(await next(9)).toBe('c1 a2 b2 c2 a3 b3')
    })

    it('start with the new group whose first task has been ready longest', async () => {
      const [first] = await add('a1 b1 a2 c1')
      await fixture.queue.cancel({ ids: [first!] })
      await add('d1', { delayMs: 500 })
      fixture.now += 600
      await add('e1')
      expect(await next(9)).toBe('b1 a2 c1 d1 e1')
    })

    it('with one waiting task alternate with those that have several, by age, for any history', async () => {
      await add('a1 b1 c1')
      await add('-1 d1 b2')
      const [first] = await add('e1 f1')
      await fixture.queue.cancel({ ids: [first!] })
      await add('e2 g1')
      expect(await next(2)).toBe('a1 b1')
      await add('c2 h1')
      expect(await next(3)).toBe('c1 -1 d1')
      expect(await next(9)).toBe('f1 e2 g1 h1 b2 c2')
      expect(await next(9)).toBe('')
    })

    it('with one waiting task share the permits of their group over all priorities', async () => {
      await limit('t', null, { groupConcurrency: 1 })
      await add('a1 b1 c1')
      await add('a2 b2 d1', { priority: 5 })
      await add('a3', { priority: 9 })
      const [first, ...others] = await claim(9)
      expect(names([first!, ...others])).toBe('a3 b2 d1 c1')
      expect(await next(9)).toBe('')
      await succeed(first!.lease)
      expect(await next(9)).toBe('a2')
      await succeed(others[0]!.lease)
      expect(await next(9)).toBe('b1')
    })

    it('with one waiting task count as ahead of others', async () => {
      await add('a1 b1', { priority: 1 })
      await add('c1 d1 d2 -1')
      const [last] = await add('e1')
      expect((await fixture.queue.explain(last!))!.ahead).toBe(5)
      expect(await next(3)).toBe('a1 b1 c1')
      expect((await fixture.queue.explain(last!))!.ahead).toBe(2)
      expect(await next(9)).toBe('d1 -1 e1 d2')
    })

    it('with one waiting task take turns with tasks of no group', async () => {
      await add('-1 -2 a1')
      expect(await next(1)).toBe('-1')
      expect(await next(1)).toBe('a1')
      expect(await next(1)).toBe('-2')
    })

    it('with several waiting tasks count as ahead of others, also when none has only one', async () => {
      const ids = await add('a1 a2 a3 b1 b2 b3')
      const ahead = async () => Promise.all(ids.map(async (id) => (await fixture.queue.explain(id))!.ahead))
      expect(await ahead()).toEqual([0, 2, 4, 1, 3, 5])
      await fixture.queue.sweep(100)
      expect(await ahead()).toEqual([0, 2, 4, 1, 3, 5])
    })

    it('with one waiting task are listed in the order of their tasks, page by page', async () => {
      await add('a1 b1 -1 b2 c1 d1')
      const pages: string[] = []
      let cursor: string | undefined
      do {
        const page = await fixture.queue.list({ type: 't', status: 'pending', limit: 2, ...(cursor && { cursor }) })
        pages.push(page.tasks.map(({ payload }) => payload).join(' '))
        cursor = page.nextCursor ?? undefined
      } while (cursor !== undefined)
      expect(pages.filter(Boolean)).toEqual(['a1 b1', '-1 b2', 'c1 d1'])
    })

    it('of one type are independent of groups of another type with the same name', async () => {
      await fixture.queue.configureType('t', { groupConcurrency: 1 })
      await add('a1 a2')
      await add('a3 b1 a4', { type: 'u' })
      const claimed = (await next(9)).split(' ')
      expect(claimed.filter((name) => ['a3', 'b1', 'a4'].includes(name))).toEqual(['a3', 'b1', 'a4'])
      expect(claimed).toContain('a1')
      expect(claimed).toHaveLength(4)
    })

    it('stay with their task through delay, back-off, a lost lease, a release and a retry', async () => {
      const { id } = await submit({ group: 'a', delayMs: 100, maxRetry: 1 })
      fixture.now += 100
      const again = async () => {
        const [lease] = await claim()
        expect(lease!.task).toMatchObject({ id, group: 'a' })
        return lease!.lease
      }
      await fail(await again(), { delayMs: 300 })
      expect(await get(id)).toMatchObject({ status: 'pending', group: 'a' })
      fixture.now += 300
      await again()
      fixture.now += 1_000
      await fixture.queue.sweep(100)
      const released = [{ lease: await again(), outcome: { kind: 'released' } as const }]
      await fixture.queue.turn({ worker: WORKER, want: 0, outcomes: released })
      await fail(await again(), { retry: false })
      await fixture.queue.retry({ ids: [id] })
      await succeed(await again())
      expect(await get(id)).toMatchObject({ status: 'success', group: 'a' })
    })

    it('are part of the request that an idempotency key identifies', async () => {
      const spec = completeSpec({ type: 't', idempotencyKey: 'k', group: 'a' })
      const [one] = await fixture.queue.submit([spec])
      expect((await fixture.queue.submit([spec]))[0]).toMatchObject({ existing: true, task: { id: one!.task.id } })
      await expect(fixture.queue.submit([{ ...spec, group: 'b' }])).rejects.toMatchObject({
        code: 'idempotency_conflict',
      })
    })

    it('filter lists and bulk changes', async () => {
      const ids = await add('a1 b1 -1 a2')
      const [late] = await add('a3', { delayMs: 50 })
      await add('a4', { type: 'u' })
      const list = async (query: object) =>
        (await fixture.queue.list({ limit: 9, ...query })).tasks.map(({ payload }) => payload).join(' ')
      expect(await list({ group: 'a' })).toBe('a4 a3 a2 a1')
      expect(await list({ group: 'a', status: 'pending', type: 't' })).toBe('a1 a2 a3')
      const filter = { group: 'a', type: 't' }
      const { results } = await fixture.queue.cancel({ filter })
      expect(results.map(({ id }) => id).sort()).toEqual([ids[0]!, ids[3]!, late!].sort())
      expect((await fixture.queue.retry({ filter: { ...filter, status: 'canceled' } })).results).toHaveLength(3)
      expect((await fixture.queue.cancel({ filter: { status: 'pending' } })).results).toHaveLength(6)
    })

    it('run at most the limit of a group at once, and the other groups continue', async () => {
      await limit('t', null, { groupConcurrency: 2 })
      await add('a1 a2 a3 a4 b1 -1 -2 -3')
      expect(await next(9)).toBe('a1 b1 -1 a2 -2 -3')
      await add('b2 b3 c1')
      expect(await next(9)).toBe('c1 b2')
      expect(await next(9)).toBe('')
    })

    it('release a permit when a task ends, loses its lease, or is canceled', async () => {
      await limit('t', null, { groupConcurrency: 1 })
      const ids = await add('a1 a2 a3 a4')
      await succeed((await claim(9))[0]!.lease)
      const [second, ...more] = await claim(9)
      expect([second!.task.payload, more]).toEqual(['a2', []])
      fixture.now += 1_000
      await fixture.queue.sweep(100)
      const [again] = await claim(9)
      expect(again!.task.id).toBe(ids[1])
      await fixture.queue.cancel({ ids: [ids[1]!] })
      expect(await next(9)).toBe('')
      await succeed(again!.lease)
      expect(await next(9)).toBe('a3')
    })

    it('count their permits over all priorities', async () => {
      await limit('t', null, { groupConcurrency: 1 })
      await add('a1 b1 c1')
      await add('a2 a3', { priority: 5 })
      expect(await next(2)).toBe('a2 b1')
      expect(await next(9)).toBe('c1')
    })

    it('respect the limit of the type as well', async () => {
      await limit('t', 3, { groupConcurrency: 2 })
      await add('a1 a2 a3 b1 b2')
      const leases = await claim(9)
      expect(names(leases)).toBe('a1 b1 a2')
      await succeed(leases[0]!.lease)
      expect(await next(9)).toBe('b2')
    })

    it('follow a limit that changes at run time, and prefer the operator to the handler', async () => {
      await add('a1 a2 a3 a4 a5')
      expect((await limit('t', null, { groupConcurrency: 1 })).groupConcurrency).toBe(1)
      const leases = await claim(9)
      expect(names(leases)).toBe('a1')
      expect((await fixture.queue.configureType('t', { groupConcurrency: 3 })).groupConcurrency).toBe(3)
      leases.push(...(await claim(9)))
      expect(names(leases)).toBe('a1 a2 a3')
      expect((await limit('t', 7, { groupConcurrency: 1 })).groupConcurrency).toBe(3)
      await fixture.queue.configureType('t', { groupConcurrency: 2 })
      await succeed(leases[0]!.lease)
      expect(await next(9)).toBe('')
      await succeed(leases[1]!.lease)
      expect(await next(9)).toBe('a4')
      await fixture.queue.configureType('t', { groupConcurrency: null })
      expect(await limit('t', 7, { groupConcurrency: 1 })).toMatchObject({ maxConcurrency: 7, groupConcurrency: null })
      expect(await next(9)).toBe('a5')
    })

    it('count running tasks when a limit is set for the first time, and again', async () => {
      await add('a1 b1 a2 b2 a3 b3 a4')
      const leases = await claim(3)
      expect(names(leases)).toBe('a1 b1 a2')
      await succeed(leases[1]!.lease)
      await fixture.queue.configureType('t', { groupConcurrency: 2 })
      leases.push(...(await claim(9)))
      expect(names(leases.slice(3))).toBe('b2 b3')
      await succeed(leases[0]!.lease)
      expect(await next(9)).toBe('a3')
      await fixture.queue.configureType('t', { groupConcurrency: null })
      expect(await next(9)).toBe('a4')
      await add('a5 b4')
      await limit('t', null, { groupConcurrency: 3 })
      await fixture.queue.configureType('t', { groupConcurrency: 3 })
      expect(await next(9)).toBe('b4')
      await succeed(leases[2]!.lease)
      expect(await next(9)).toBe('a5')
    })

    it('that have run before obey a new limit, and continue with the next permit', async () => {
      await limit('t', null, { groupConcurrency: 1 })
      await add('a1')
      const [first] = await claim()
      await fixture.queue.sweep(100)
      await add('a2 b1')
      expect(await next(9)).toBe('b1')
      await succeed(first!.lease)
      expect(await next(9)).toBe('a2')
    })

    it('wake a waiting turn when a permit is released or the limit is raised', async () => {
      const wait = () => fixture.queue.turn({ worker: WORKER, want: 1, waitMs: 20_000 })
      await limit('t', null, { groupConcurrency: 1 })
      await add('a1 a2 a3')
      const [first] = await claim()
      const [byPermit] = await Promise.all([wait(), succeed(first!.lease)])
      expect(names(byPermit.leases)).toBe('a2')
      const [byLimit] = await Promise.all([wait(), fixture.queue.configureType('t', { groupConcurrency: 2 })])
      expect(names(byLimit.leases)).toBe('a3')
    })

    it('run each task once and never more than the limit, with workers of several processes', async () => {
      const other = await fixture.opened.second()
      await limit('t', null, { groupConcurrency: 2 })
      const specs = Array.from({ length: 120 }, (_, index) => completeSpec({ type: 't', group: `g${index % 3}` }))
      await fixture.queue.submit(specs)
      const done: string[] = []
      const work = async (on: Queue, index: number) => {
        const worker = { ...WORKER, id: `w${index}`, types: ['t'] }
        let outcomes: { lease: string; outcome: { kind: 'success'; result: null } }[] = []
        while (done.length < specs.length) {
          const { leases } = await on.turn({ worker, want: 3, outcomes, waitMs: 20 })
          done.push(...outcomes.map(({ lease }) => lease))
          const [info] = await on.types({ names: ['t'], holders: true })
          for (const group of ['g0', 'g1', 'g2']) {
            expect(info!.holders.filter((holder) => holder.group === group).length).toBeLessThanOrEqual(2)
          }
          outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } }))
        }
      }
      await Promise.all(Array.from({ length: 6 }, (_, index) => work(index % 2 ? other : fixture.queue, index)))
      expect(new Set(done).size).toBe(specs.length)
    })

    it('explain which tasks hold the permits of a group, and which group is next', async () => {
      const [first, second, ofB, none] = await add('a1 a2 b1 -1')
      await limit('t', null, { groupConcurrency: 1 })
      const explain = (id: string) => fixture.queue.explain(id)
      await claim(0)
      expect(await explain(first!)).toMatchObject({ reason: 'ready', ahead: 0 })
      expect(await explain(second!)).toMatchObject({ reason: 'behind', ahead: 3 })
      expect(await explain(none!)).toMatchObject({ reason: 'behind', ahead: 2 })
      const [lease] = await claim()
      expect(await explain(second!)).toMatchObject({
        reason: 'group_limit_reached',
        holders: [{ taskId: first, group: 'a', workerId: WORKER.id }],
        until: lease!.expiresAt,
      })
      expect(await explain(ofB!)).toMatchObject({ reason: 'ready', holders: [{ taskId: first }] })
      await fixture.queue.configureType('t', { maxConcurrency: 1 })
      expect((await explain(second!))!.reason).toBe('limit_reached')
    })
  })
}
