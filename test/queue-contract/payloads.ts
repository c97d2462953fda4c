import { describe, expect, it } from 'vitest'
import type { Outcome } from '../../src/task/outcome.ts'
import type { TaskSpec } from '../../src/task/task.ts'
import { type Fixture, WORKER } from './fixture.ts'

/** Stores may keep long payloads in another form than short ones: on Redis from 1,024 bytes on. */
const BYTES = [2, 1_023, 1_024, 1_025, 200_000]
const textOf = (bytes: number) => 'é\n"'.repeat(Math.ceil(bytes / 6)).slice(0, bytes)
/** As JSON, these have exactly the number of bytes. */
const PAYLOADS = [...BYTES.map((bytes) => 'x'.repeat(bytes - 2)), { text: textOf(2_000), list: [textOf(3_000), null] }]

export function payloadsContract(fixture: Fixture): void {
  const { submit, claim, succeed, fail, get } = fixture
  const settle = (lease: string, outcome: Outcome) =>
    fixture.queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease, outcome }] })
  const sweepAfter = async (ms: number) => {
    fixture.now += ms
    while ((await fixture.queue.sweep(100)).more);
  }

  describe.each<[string, Partial<TaskSpec>]>([
    ['a plain task', {}],
    ['a task with tags', { tags: { a: 'b' } }],
    ['a task of a group', { group: 'g' }],
    ['a task of a group with tags', { group: 'g', tags: { a: 'b' } }],
    ['a task with a named limit', { uses: { l: 1 } }],
    ['a delayed task', { delayMs: 10 }],
  ])('the payload of %s', (_, spec) => {
    const begin = async (payload: (typeof PAYLOADS)[number]) => {
      await fixture.queue.configureLimit('l', { max: 5 })
      const task = await submit({ ...spec, payload })
      expect(await get(task.id)).toMatchObject({ status: 'pending', payload })
      await sweepAfter(10)
      return task.id
    }
    const run = async (id: string) => {
      const [lease] = await claim()
      expect(lease!.task.id).toBe(id)
      return lease!
    }

    it('is the same in each state, whatever its size', async () => {
      for (const payload of PAYLOADS) {
        const id = await begin(payload)
        const { lease, task } = await run(id)
        expect(task.payload).toEqual(payload)
        expect(await get(id)).toMatchObject({ status: 'processing', payload })
        expect((await fixture.queue.list({ status: 'processing', limit: 1 })).tasks[0]).toMatchObject({ id, payload })
        await succeed(lease, 1)
        expect(await get(id)).toMatchObject({ status: 'success', payload, result: 1 })
        expect((await fixture.queue.list({ status: 'success', limit: 1 })).tasks[0]).toMatchObject({ id, payload })
      }
    })

    it('stays through retries, returns, a lost worker and a retry by hand', async () => {
      for (const payload of PAYLOADS) {
        const id = await begin(payload)
        await fail((await run(id)).lease, { delayMs: 50 })
        expect(await get(id)).toMatchObject({ status: 'pending', payload, attempts: 1 })
        await sweepAfter(50)
        await fail((await run(id)).lease, { delayMs: 0 })
        expect(await get(id)).toMatchObject({ status: 'pending', payload, attempts: 2 })
        await settle((await run(id)).lease, { kind: 'released' })
        expect(await get(id)).toMatchObject({ status: 'pending', payload, attempts: 2 })
        expect((await run(id)).task.payload).toEqual(payload)
        await sweepAfter(1_001)
        expect(await get(id)).toMatchObject({ status: 'pending', payload })
        await sweepAfter(10_000)
        const { lease, task } = await run(id)
        expect(task.payload).toEqual(payload)
        await fail(lease, { retry: false })
        expect(await get(id)).toMatchObject({ status: 'failed', payload, error: 'no' })
        await fixture.queue.retry({ ids: [id] })
        expect(await get(id)).toMatchObject({ status: 'pending', payload })
        const again = await run(id)
        expect(again.task.payload).toEqual(payload)
        await succeed(again.lease)
        expect(await get(id)).toMatchObject({ status: 'success', payload })
      }
    })

    it('stays when the task is canceled after it was returned, and is erased with the task', async () => {
      for (const payload of PAYLOADS) {
        const id = await begin(payload)
        await settle((await run(id)).lease, { kind: 'released' })
        await fixture.queue.cancel({ ids: [id] })
        expect(await get(id)).toMatchObject({ status: 'canceled', payload })
        await fixture.queue.erase([id])
        expect((await fixture.queue.get([id]))[0]).toBeNull()
      }
    })
  })

  it('hands out many tasks with long payloads in one turn, in their order', async () => {
    const payloads = Array.from({ length: 45 }, (_, index) => `${index} ${'x'.repeat(index % 4 === 0 ? 10 : 30_000)}`)
    const ids: string[] = []
    for (const payload of payloads) ids.push((await submit({ payload })).id)
    const leases = await claim(100)
    expect(leases.map(({ task }) => task.id)).toEqual(ids)
    expect(leases.map(({ task }) => task.payload)).toEqual(payloads)
    expect(await claim(100)).toEqual([])
  })

  describe('the payload of a task that waits for another', () => {
    it('is handed out with its result', async () => {
      for (const payload of PAYLOADS) {
        const first = await submit({ payload })
        const { id } = await submit({ payload, after: [first.id] })
        await succeed((await claim())[0]!.lease, 1)
        const [lease] = await claim()
        expect(lease!.task).toMatchObject({ id, payload })
        await succeed(lease!.lease, 2)
        expect(await get(id)).toMatchObject({ status: 'success', payload, result: 2 })
      }
    })
  })
}
