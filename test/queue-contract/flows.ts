import { describe, expect, it } from 'vitest'
import type { Lease } from '../../src/queue/queue.ts'
import { effectOf, ON_FAILURE } from '../../src/task/flow.ts'
import type { FinalStatus } from '../../src/task/status.ts'
import { completeSpec, TASK_LIMITS, type Task, type TaskSpec } from '../../src/task/task.ts'
import type { Fixture } from './fixture.ts'

/** Tasks that wait for others. */
export function flowsContract(fixture: Fixture): void {
  const { submit, claim, succeed, fail, get } = fixture
  const submitAll = async (...specs: Partial<TaskSpec>[]): Promise<Task[]> => {
    const submitted = await fixture.queue.submit(specs.map((spec) => completeSpec({ type: 't', ...spec })))
    return submitted.map(({ task }) => task)
  }
  const settled = async () => {
    // In a cluster what two partitions tell each other takes a few steps.
    for (let step = 0; step < 5; step++) while ((await fixture.queue.sweep(100)).more);
  }
  const only = (leases: Lease[]): Lease => {
    expect(leases).toHaveLength(1)
    return leases[0]!
  }
  const explain = async (id: string) => {
    const { reason, waitsFor } = (await fixture.queue.explain(id))!
    return { reason, waitsFor }
  }
  const eventually = async (id: string, status: Task['status']) => {
    await settled()
    const task = await get(id)
    expect(task.status).toBe(status)
    return task
  }

  describe('flows', () => {
    it('starts a task only after its predecessors, with their outcomes', async () => {
      const [a, b] = await submitAll({ payload: 'a' }, { type: 'u', payload: 'b' })
      const join = await submit({ payload: 'join', after: [b!.id, a!.id] })
      expect(join).toMatchObject({ status: 'pending', after: [b!.id, a!.id], onFailure: 'cancel' })
      expect(await get(join.id)).toEqual(join)
      expect(await explain(join.id)).toEqual({ reason: 'waits_for_tasks', waitsFor: [b!.id, a!.id] })
      const leases = await claim(5)
      expect(leases.map(({ task }) => task.id).sort()).toEqual([a!.id, b!.id].sort())
      expect(leases.map(({ predecessors }) => predecessors)).toEqual([[], []])
      await succeed(leases.find(({ task }) => task.id === a!.id)!.lease, 1)
      await settled()
      expect(await claim()).toEqual([])
      expect(await explain(join.id)).toEqual({ reason: 'waits_for_tasks', waitsFor: [b!.id] })
      await succeed(leases.find(({ task }) => task.id === b!.id)!.lease, 2)
      await settled()
      const { task, predecessors } = only(await claim())
      expect(task).toMatchObject({ id: join.id, after: [b!.id, a!.id], payload: 'join' })
      expect(predecessors).toEqual([
        { id: b!.id, type: 'u', status: 'success', result: 2, error: null },
        { id: a!.id, type: 't', status: 'success', result: 1, error: null },
      ])
    })

    it('lists the tasks that wait for a task, oldest first, and those that its failure canceled', async () => {
      const successors = async (id: string) => {
        const { successors: ids, hasMoreSuccessors } = (await fixture.queue.explain(id))!
        return { ids, hasMoreSuccessors }
      }
      const [a, b] = await submitAll({ maxRetry: 0 }, { maxRetry: 0 })
      const after = Array.from({ length: 101 }, (_, index) => ({ after: index === 0 ? [b!.id, a!.id] : [a!.id] }))
      const waiting = (await submitAll(...after)).map(({ id }) => id)
      await settled()
      expect(await successors(a!.id)).toEqual({ ids: waiting.slice(0, 100), hasMoreSuccessors: true })
      expect(await successors(b!.id)).toEqual({ ids: waiting.slice(0, 1), hasMoreSuccessors: false })
      const leases = await claim(2)
      await succeed(leases.find(({ task }) => task.id === a!.id)!.lease)
      await settled()
      expect(await successors(a!.id)).toEqual({ ids: [], hasMoreSuccessors: false })
      await fail(leases.find(({ task }) => task.id === b!.id)!.lease)
      await eventually(waiting[0]!, 'canceled')
      expect((await successors(b!.id)).ids).toEqual([waiting[0]])
      await fixture.queue.erase([waiting[0]!])
      await settled()
      expect((await successors(b!.id)).ids).toEqual([])
    })

    it('accepts a graph in one batch, where a task names earlier ones by index', async () => {
      const [first, left, right, last] = await submitAll(
        {},
        { type: 'u', after: [0] },
        { after: [0] },
        { type: 'u', after: [1, 2], payload: 'last' },
      )
      expect(last!.after).toEqual([left!.id, right!.id])
      expect(right!.after).toEqual([first!.id])
      const order: string[] = []
      for (let round = 0; round < 3; round++) {
        const leases = await claim(9)
        order.push(...leases.map(({ task }) => task.id).sort())
        for (const { lease } of leases) await succeed(lease, round)
        await settled()
      }
      expect(order).toEqual([first!.id, ...[left!.id, right!.id].sort(), last!.id])
      expect((await get(last!.id)).status).toBe('success')
    })

    it('uses the outcome of predecessors that have already ended', async () => {
      const { id } = await submit()
      await succeed(only(await claim()).lease, 7)
      const late = await submit({ after: [id] })
      await settled()
      const { task, predecessors } = only(await claim())
      expect(task.id).toBe(late.id)
      expect(predecessors).toMatchObject([{ id, status: 'success', result: 7 }])
    })

    it('refuses a whole batch if one task waits for an unknown task', async () => {
      const { id } = await submit()
      const unknown = id.replace(/^.{8}/, '00000000')
      const refused = submitAll({}, { after: [0, unknown] }, { after: [id, 'nonsense'] })
      await expect(refused).rejects.toMatchObject({
        code: 'unknown_predecessor',
        details: { errors: [{ path: 'tasks[1].after[1]' }, { path: 'tasks[2].after[1]' }] },
      })
      expect((await fixture.queue.stats()).counts.pending).toBe(1)
    })

    it('cancels the successors of a failed task, and their successors', async () => {
      const [a, b, c, other] = await submitAll({ maxRetry: 0 }, { type: 'u', after: [0] }, { after: [1] }, {})
      const leases = await claim(9)
      expect(leases).toHaveLength(2)
      await fail(leases.find(({ task }) => task.id === a!.id)!.lease, { error: 'broken' })
      const canceled = await eventually(b!.id, 'canceled')
      expect(canceled.error).toBe(`task ${a!.id}, which it waits for, ended as failed`)
      expect((await eventually(c!.id, 'canceled')).error).toContain(`task ${b!.id}`)
      expect((await get(other!.id)).status).toBe('processing')
      const { events } = await fixture.queue.events({ after: '', max: 100 })
      const reported = events.filter(({ taskId }) => taskId === c!.id).map(({ status }) => status)
      expect(reported).toEqual(['pending', 'canceled'])
    })

    it('cancels a task at once that is submitted to wait for a failed one', async () => {
      const { id } = await submit({ maxRetry: 0 })
      await fail(only(await claim()).lease)
      const late = await submit({ after: [id] })
      await eventually(late.id, 'canceled')
    })

    it('runs after any outcome of the predecessors with onFailure run', async () => {
      const [a, b, join] = await submitAll({ maxRetry: 0 }, {}, { type: 'u', after: [0, 1], onFailure: 'run' })
      await fixture.queue.cancel({ ids: [b!.id] })
      await fail(only(await claim()).lease, { error: 'broken' })
      await settled()
      const { task, predecessors } = only(await claim())
      expect(task.id).toBe(join!.id)
      expect(predecessors).toEqual([
        { id: a!.id, type: 't', status: 'failed', result: null, error: 'broken' },
        { id: b!.id, type: 't', status: 'canceled', result: null, error: null },
      ])
    })

    for (const policy of ON_FAILURE) {
      it(`applies the policy ${policy} to each end of a predecessor, as its table says`, async () => {
        const ended = await submitAll({ type: 'u' }, { maxRetry: 0 }, {}, { queueTimeoutMs: 10 })
        const successors = await submitAll(...ended.map(({ id }) => ({ type: 'u', after: [id], onFailure: policy })))
        await fixture.queue.cancel({ ids: [ended[2]!.id] })
        const [success, failure] = [only(await claim(1, { ...fixture.worker, types: ['u'] })), only(await claim(1))]
        fixture.now += 20
        await settled()
        await succeed(success.lease)
        await fail(failure.lease)
        await settled()
        const statuses = await Promise.all(ended.map(async ({ id }) => (await get(id)).status))
        expect(statuses).toEqual(['success', 'failed', 'canceled', 'timeout'])
        const effects = await Promise.all(
          successors.map(async ({ id }) => {
            const { reason, task } = (await fixture.queue.explain(id))!
            return reason === 'waits_for_tasks' ? 'waits' : task.status === 'canceled' ? 'cancels' : 'counts'
          }),
        )
        expect(effects).toEqual(statuses.map((status) => effectOf(status as FinalStatus, policy)))
      })
    }

    it('waits with onFailure wait until the predecessor is retried and succeeds', async () => {
      const [a, b] = await submitAll({ maxRetry: 0 }, { type: 'u', after: [0], onFailure: 'wait' })
      await fail(only(await claim()).lease)
      await settled()
      expect(await explain(b!.id)).toEqual({ reason: 'waits_for_tasks', waitsFor: [a!.id] })
      await fixture.queue.retry({ ids: [a!.id] })
      await succeed(only(await claim()).lease, 3)
      await settled()
      expect(only(await claim()).predecessors).toMatchObject([{ id: a!.id, status: 'success', result: 3 }])
    })

    it('retries a whole flow in any order: canceled tasks wait again', async () => {
      const [a, b, c] = await submitAll({ maxRetry: 0 }, { after: [0] }, { type: 'u', after: [1] })
      await fail(only(await claim()).lease)
      await eventually(c!.id, 'canceled')
      fixture.now += 1
      for (const { id } of [c!, b!, a!]) {
        expect((await fixture.queue.retry({ ids: [id] })).results[0]!.outcome).toBe('changed')
      }
      for (const { id } of [a!, b!, c!]) {
        const { task, lease } = only(await claim(9))
        expect(task.id).toBe(id)
        await succeed(lease, 1)
        await settled()
      }
    })

    it('hands out the outcomes of predecessors again when a task is retried', async () => {
      const [a, b] = await submitAll({}, { maxRetry: 0, after: [0] })
      await succeed(only(await claim()).lease, 5)
      await settled()
      await fail(only(await claim()).lease)
      fixture.now += 1
      await fixture.queue.retry({ ids: [b!.id] })
      expect(only(await claim()).predecessors).toMatchObject([{ id: a!.id, result: 5 }])
    })

    it('cancels a waiting task and its successors, and no others', async () => {
      const [a, b, c] = await submitAll({}, { type: 'u', after: [0] }, { after: [1] })
      const { results } = await fixture.queue.cancel({ ids: [b!.id] })
      expect(results[0]).toMatchObject({ outcome: 'changed', task: { status: 'canceled' } })
      await eventually(c!.id, 'canceled')
      await succeed(only(await claim(9)).lease)
      await settled()
      expect(await claim(9)).toEqual([])
      expect((await get(a!.id)).status).toBe('success')
    })

    it('begins the queue time-out and the rest of a delay when the predecessors have ended', async () => {
      const [, soon, later] = await submitAll(
        { queueTimeoutMs: 0 },
        { after: [0], queueTimeoutMs: 1_000 },
        { after: [0], delayMs: 5_000, queueTimeoutMs: 1_000 },
      )
      const { lease } = only(await claim())
      fixture.now += 900
      await fixture.queue.turn({ worker: { ...fixture.worker }, want: 0, renewals: [{ lease }] })
      fixture.now += 900
      await settled()
      await succeed(lease)
      await settled()
      expect(await get(soon!.id)).toMatchObject({ status: 'pending', runAt: fixture.now })
      expect(await explain(later!.id)).toEqual({ reason: 'delayed', waitsFor: [] })
      expect((await get(later!.id)).runAt).toBe(later!.runAt)
      fixture.now += 1_000
      await settled()
      expect(await get(soon!.id)).toMatchObject({ status: 'timeout', timeoutReason: 'queue_wait' })
      fixture.now = later!.runAt
      expect(only(await claim(9)).task.id).toBe(later!.id)
    })

    it('honours priority and group when the predecessors have ended', async () => {
      await fixture.limit('t', null, { groupConcurrency: 1 })
      const [, low, high, g1, g2] = await submitAll(
        { type: 'u' },
        { after: [0], priority: 1 },
        { after: [0], priority: 9 },
        { after: [0], group: 'g' },
        { after: [0], group: 'g' },
      )
      await succeed(only(await claim(9)).lease)
      await settled()
      const leases = await claim(9)
      expect(leases.map(({ task }) => task.id)).toEqual([high!.id, low!.id, g1!.id])
      await succeed(leases[2]!.lease)
      expect(only(await claim(9)).task.id).toBe(g2!.id)
    })

    it('returns the same task for its idempotency key, also after its predecessors were removed', async () => {
      await fixture.opened.cleanup()
      await fixture.start({ retention: { ageMs: 1_000, countMax: 1_000 } })
      const [a] = await submitAll({})
      const spec = { after: [a!.id], idempotencyKey: 'k' }
      const first = await submit(spec)
      await succeed(only(await claim()).lease, 1)
      await settled()
      fixture.now += 2_000
      await settled()
      expect(await get(a!.id)).toBeNull()
      const again = await fixture.queue.submit([completeSpec({ type: 't', ...spec })])
      expect(again[0]).toMatchObject({ existing: true, task: { id: first.id } })
      expect(only(await claim()).predecessors).toMatchObject([{ id: a!.id, status: 'success', result: 1 }])
    })

    it('returns the same task for its idempotency key, also when it has ended and its predecessor was erased', async () => {
      const [a] = await submitAll({})
      const spec = { after: [a!.id], idempotencyKey: 'k' }
      const first = await submit(spec)
      for (const _ of [a, first]) {
        await succeed(only(await claim()).lease)
        await settled()
      }
      await fixture.queue.erase([a!.id])
      expect(await get(a!.id)).toBeNull()
      const again = await fixture.queue.submit([completeSpec({ type: 't', ...spec })])
      expect(again[0]).toMatchObject({ existing: true, task: { id: first.id } })
    })

    it('cancels the successors of a task that retention removes, and refuses to retry them', async () => {
      await fixture.opened.cleanup()
      await fixture.start({ retention: { ageMs: 1_000, countMax: 1_000 } })
      const [a, b] = await submitAll({ maxRetry: 0 }, { after: [0], onFailure: 'wait' })
      await fail(only(await claim()).lease)
      fixture.now += 2_000
      const canceled = await eventually(b!.id, 'canceled')
      expect(canceled.error).toContain(`task ${a!.id}`)
      const { results } = await fixture.queue.retry({ ids: [b!.id] })
      expect(results[0]!.outcome).toBe('refused')
    })

    it('lists and counts dependent tasks with the pending ones, last', async () => {
      const [a, b, c, d] = await submitAll({}, { after: [0] }, { delayMs: 500 }, { after: [0] })
      const ids: string[] = []
      let cursor: string | null = null
      do {
        const page: Awaited<ReturnType<typeof fixture.queue.list>> = await fixture.queue.list({
          status: 'pending',
          limit: 1,
          ...(cursor === null ? {} : { cursor }),
        })
        ids.push(...page.tasks.map(({ id }) => id))
        cursor = page.nextCursor
      } while (cursor !== null)
      expect(ids).toEqual([a!.id, c!.id, b!.id, d!.id])
      const stats = await fixture.queue.stats()
      expect(stats).toMatchObject({ delayed: 1, dependent: 2, counts: { pending: 4 } })
      const [info] = await fixture.queue.types({ names: ['t'] })
      expect(info).toMatchObject({ pending: 4, delayed: 1, dependent: 2 })
    })

    it('counts dependent tasks against the cap on waiting tasks', async () => {
      await fixture.opened.cleanup()
      await fixture.start({ pendingMax: 2 })
      await submitAll({}, { after: [0] })
      await expect(submit()).rejects.toMatchObject({ code: 'queue_full' })
    })

    it('follows a long chain to its end', async () => {
      const length = 2_000
      const chain = await submitAll(
        ...Array.from({ length }, (_, index) => ({ maxRetry: 0, after: index === 0 ? [] : [index - 1] })),
      )
      await fail(only(await claim(9)).lease)
      await eventually(chain.at(-1)!.id, 'canceled')
      expect((await fixture.queue.stats()).counts).toMatchObject({ pending: 0, canceled: length - 1, failed: 1 })
    })

    it('starts very many successors at once, and reports the maximum per task', async () => {
      const most = TASK_LIMITS.successorsMax
      const { id } = await submit({ type: 'u' })
      for (let from = 0; from < most; from += 2_000) {
        await submitAll(...Array.from({ length: 2_000 }, () => ({ after: [id] })))
      }
      await settled()
      await expect(submit({ after: [id] })).rejects.toMatchObject({ code: 'too_many_successors' })
      await succeed(only(await claim()).lease, 1)
      await settled()
      expect((await fixture.queue.stats()).dependent).toBe(0)
      expect(await claim(100)).toHaveLength(100)
    })

    it('works across processes', async () => {
      const second = await fixture.opened.second()
      const [a, b] = await submitAll({}, { after: [0] })
      const { leases } = await second.turn({ worker: { ...fixture.worker, id: 'w2' }, want: 9 })
      expect(only(leases).task.id).toBe(a!.id)
      const outcome = { kind: 'success', result: 9 } as const
      await second.turn({ worker: fixture.worker, want: 0, outcomes: [{ lease: leases[0]!.lease, outcome }] })
      await settled()
      expect(only(await claim())).toMatchObject({ task: { id: b!.id }, predecessors: [{ result: 9 }] })
    })
  })
}
