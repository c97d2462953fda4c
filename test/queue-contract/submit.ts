import { describe, expect, it } from 'vitest'
import { completeSpec, DEFAULTED_FIELDS, type TaskSpec } from '../../src/task/task.ts'
import type { Fixture } from './fixture.ts'

export function submitContract(fixture: Fixture): void {
  const { start, submit, get } = fixture

  describe('submit', () => {
    it('accepts a task that every process then reads', async () => {
      const task = await submit({ payload: { a: [1, 'é', null] }, tags: { k: 'v' }, priority: 3 })
      expect(await get(task.id)).toEqual(task)
      expect(task).toMatchObject({
        status: 'pending',
        attempts: 0,
        deliveries: 0,
        runAt: fixture.now,
        createdAt: fixture.now,
      })
    })

    it('refuses unknown types with the index of each, and accepts none of the batch', async () => {
      const specs = ['t', 'nope', 't', 'nah'].map((type) => completeSpec({ type }))
      await expect(fixture.queue.submit(specs)).rejects.toMatchObject({
        code: 'unknown_type',
        details: {
          registered_types: ['t', 'u'],
          errors: [{ path: 'tasks[1].type' }, { path: 'tasks[3].type' }],
        },
      })
      expect((await fixture.queue.stats()).counts.pending).toBe(0)
    })

    it('names at most 20 of the registered types, and how many more there are', async () => {
      const types = Array.from({ length: 21 }, (_, index) => `more-${index + 10}`)
      for (const type of types) await fixture.queue.configureType(type, { declared: true })
      const refusal = submit({ type: 'nope' })
      await expect(refusal).rejects.toThrow(/more-28, more-29, and 3 more\)/)
      await expect(refusal).rejects.toMatchObject({ details: { registered_types: types.slice(0, 20) } })
    })

    it('returns the earlier task for a known key, also within one batch, and refuses a different body', async () => {
      const spec = completeSpec({ type: 't', payload: 1, idempotencyKey: 'k' })
      const [one, two] = await fixture.queue.submit([spec, spec])
      const [three] = await fixture.queue.submit([spec])
      expect([one!.existing, two!.existing, three!.existing]).toEqual([false, true, true])
      expect(new Set([one!.task.id, two!.task.id, three!.task.id]).size).toBe(1)
      await expect(fixture.queue.submit([completeSpec({ type: 't' }), { ...spec, payload: 2 }])).rejects.toMatchObject({
        code: 'idempotency_conflict',
      })
      expect((await fixture.queue.stats()).counts.pending).toBe(1)
    })

    it.each<[string, Partial<TaskSpec>]>([
      ['payload', { payload: { a: [1, '2'] } }],
      ['priority', { priority: 1 }],
      ['tags', { tags: { a: 'b' } }],
      ['another tag', { tags: { a: 'c' } }],
      ['group', { group: 'g' }],
      ['max_retry', { maxRetry: 7 }],
      ['queue_timeout', { queueTimeoutMs: 7 }],
      ['process_timeout', { processTimeoutMs: 7 }],
      ['delay', { delayMs: 7 }],
      ['after', { after: ['other'] }],
      ['on_failure', { after: ['one'], onFailure: 'run' }],
    ])('refuses a known key with another %s', async (_field, change) => {
      const ids = new Map([
        ['one', (await submit()).id],
        ['other', (await submit()).id],
      ])
      const isOnFailure = change.onFailure !== undefined
      const spec = (more: Partial<TaskSpec>) => {
        const base = { type: 't', payload: { a: [1, 2] }, idempotencyKey: 'k', tags: { a: 'a' } }
        const asked = { ...base, after: isOnFailure ? ['one'] : [], ...more }
        return completeSpec({ ...asked, after: asked.after.map((name) => ids.get(name as string)!) })
      }
      await fixture.queue.submit([spec({})])
      await expect(fixture.queue.submit([spec(change)])).rejects.toMatchObject({ code: 'idempotency_conflict' })
      expect((await fixture.queue.submit([spec({ batch: 'b' })]))[0]!.existing).toBe(true)
    })

    it('compares the request of a key as submitted, without defaults', async () => {
      const key = (more: Partial<TaskSpec>) => completeSpec({ type: 't', idempotencyKey: 'k', maxRetry: 3, ...more })
      const [first] = await fixture.queue.submit([key({ byDefault: DEFAULTED_FIELDS })])
      const [again] = await fixture.queue.submit([
        key({ maxRetry: 7, processTimeoutMs: 1_000, byDefault: DEFAULTED_FIELDS }),
      ])
      expect(again).toMatchObject({ existing: true, task: { id: first!.task.id, maxRetry: 3 } })
      const asked = key({ byDefault: ['queueTimeoutMs', 'processTimeoutMs'] })
      await expect(fixture.queue.submit([asked])).rejects.toMatchObject({ code: 'idempotency_conflict' })
    })

    it('recognizes a key that an earlier version stored with its defaults', async () => {
      const specs = ['a', 'b'].map((idempotencyKey) => completeSpec({ type: 't', idempotencyKey, maxRetry: 3 }))
      const first = await fixture.queue.submit(specs)
      const now = specs.map((spec) => ({ ...spec, maxRetry: 9, byDefault: DEFAULTED_FIELDS }))
      const again = await fixture.queue.submit([...now, completeSpec({ type: 't' })])
      expect(again.map(({ existing }) => existing)).toEqual([true, true, false])
      expect(again[1]!.task.id).toBe(first[1]!.task.id)
      const other = { ...now[1]!, payload: 'other' }
      await expect(fixture.queue.submit([now[0]!, other])).rejects.toMatchObject({
        code: 'idempotency_conflict',
        details: { errors: [{ path: 'tasks[1].idempotency_key' }], task_id: first[1]!.task.id },
      })
    })

    it('answers each of many calls that arrive together for itself, whatever the others are', async () => {
      await fixture.queue.configureLimit('scarce', { max: 1 })
      const kinds: Partial<TaskSpec>[][] = [
        ...[[{}], [{}], [{ group: 'g', tags: { a: 'b' } }], [{}], [{ type: 'u' }], [{ type: 'u' }]],
        ...[[{ priority: 2 }], [{ delayMs: 5_000 }], [{ priority: 2 }], [{ uses: { scarce: 1 } }]],
        ...[[{ idempotencyKey: 'same' }], [{ uses: { scarce: 1 } }], [{}, { type: 'u' }], [{}, {}], [{}]],
        ...[[{ type: 'unknown' }], [{ type: 'unknown' }], [{}], [{ uses: { scarce: 2 } }]],
      ]
      const calls = Array.from({ length: 60 }, (_, n) =>
        kinds[n % kinds.length]!.map((fields, at) =>
          completeSpec({ type: 't', ...fields, payload: fields.idempotencyKey ? 'key' : { n, at } }),
        ),
      )
      const answers = await Promise.allSettled(calls.map((specs) => fixture.queue.submit(specs)))
      const shown = async (index: number) => {
        const answer = answers[index]!
        if (answer.status === 'rejected') return answer.reason.code
        return fixture.queue.get(answer.value.map(({ task }) => task.id))
      }
      for (const [index, specs] of calls.entries()) {
        const [{ type, uses }] = specs as [TaskSpec]
        if (type === 'unknown') expect(await shown(index)).toBe('unknown_type')
        else if (uses.scarce === 2) expect(await shown(index)).toBe('invalid_request')
        else {
          const wanted = specs.map(({ delayMs, runAt, byDefault, ...fields }) => expect.objectContaining(fields))
          expect(await shown(index)).toEqual(wanted)
        }
      }
      const ids = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []))
      const fresh = ids.filter(({ existing }) => !existing).map(({ task }) => task.id)
      const { counts } = await fixture.queue.stats()
      expect([new Set(fresh).size, counts.pending]).toEqual([fresh.length, fresh.length])
      expect(ids.length - fresh.length).toBe(calls.filter(([spec]) => spec!.idempotencyKey === 'same').length - 1)
    })

    it('refuses a whole call if the queue is full', async () => {
      await fixture.opened.cleanup()
      await start({ pendingMax: 2 })
      await submit()
      const two = [completeSpec({ type: 't' }), completeSpec({ type: 't' })]
      await expect(fixture.queue.submit(two)).rejects.toMatchObject({ code: 'queue_full' })
      await submit()
      expect((await fixture.queue.stats()).counts.pending).toBe(2)
    })

    it('answers a known key although the queue is full, and counts only the new tasks of a call', async () => {
      await fixture.opened.cleanup()
      await start({ pendingMax: 2 })
      const known = completeSpec({ type: 't', idempotencyKey: 'k' })
      const [first] = await fixture.queue.submit([known])
      const [again] = await fixture.queue.submit([known, completeSpec({ type: 't' }), known])
      expect(again).toMatchObject({ existing: true, task: { id: first!.task.id } })
      const [full] = await fixture.queue.submit([known])
      expect(full).toMatchObject({ existing: true, task: { id: first!.task.id } })
      const more = [known, completeSpec({ type: 't' })]
      await expect(fixture.queue.submit(more)).rejects.toMatchObject({ code: 'queue_full' })
    })

    it.each([
      ['plain', (_after: string) => [{}]],
      ['delayed', () => [{ delayMs: 60_000 }]],
      ['dependent', (after) => [{ after: [after] }]],
      ['grouped', () => [{ group: 'g' }]],
      ['in a batch', () => [{}, { delayMs: 60_000 }]],
      ['in a flow', (after) => [{ after: [after] }, { after: [0] }]],
    ] as [string, (after: string) => Partial<TaskSpec>[]][])(
      'never exceeds the cap on waiting tasks: %s',
      async (_kind, tasks) => {
        await fixture.opened.cleanup()
        await start({ pendingMax: 11 })
        const second = await fixture.opened.second()
        const { id } = await submit({ delayMs: 60_000 })
        const specs = tasks(id).map((task) => completeSpec({ type: 't', ...task }))
        const calls = Array.from({ length: 60 }, (_, index) => (index % 2 ? second : fixture.queue).submit(specs))
        const answers = await Promise.allSettled(calls)
        const accepted = answers.filter(({ status }) => status === 'fulfilled')
        const refusals = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason.code] : []))
        expect(accepted).toHaveLength(10 / specs.length)
        expect(new Set(refusals)).toEqual(new Set(['queue_full']))
        expect((await fixture.queue.stats()).counts.pending).toBe(11)
      },
    )
  })
}
