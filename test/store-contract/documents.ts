import { beforeEach, describe, expect, it } from 'vitest'
import type { DocumentChange, DocumentQuery, DueHandler } from '../../src/store/documents.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { declare, type StoreFixture } from './store-fixture.ts'

const START = 1_700_000_000_000

/** Documents, and tasks that are submitted together with them: schedules, keys and readers build on these rules. */
export function documentsContract(fixture: StoreFixture): void {
  const change = async (...changes: DocumentChange[]) => (await fixture.store.documents({ changes })).isChanged
  const read = async (query: DocumentQuery) => (await fixture.store.documents({ read: [query] })).documents[0]!
  const textsOf = async (query: DocumentQuery) => (await read(query)).map(({ id, text }) => `${id} ${text}`)
  const schedule = (id: string, to: string, more: Partial<DocumentChange> = {}): DocumentChange => ({
    kind: 'schedule',
    id,
    type: 't',
    to,
    ...more,
  })

  describe('documents', () => {
    it('keeps the documents of each kind apart, in the order of their ids, for every process', async () => {
      await change({ kind: 'key', id: 'b', to: 'B' }, { kind: 'key', id: 'a', to: 'A' })
      await change({ kind: 'secret', id: '', to: 'S' }, { kind: 'reader', id: 'a', to: '0||R' })
      await change(schedule('a', '{"of":"t"}'))
      await change(schedule('c', '{"of":"u"}', { type: 'u' }))
      const second = await fixture.second()
      const queries = [{ kind: 'key' }, { kind: 'secret' }, { kind: 'schedule' }] as const
      const { documents } = await second.documents({ read: queries })
      expect(documents.map((found) => found.map(({ id, text }) => `${id} ${text}`))).toEqual([
        ['a A', 'b B'],
        [' S'],
        ['a {"of":"t"}', 'c {"of":"u"}'],
      ])
      expect(await textsOf({ kind: 'reader', ids: ['a', 'none'] })).toEqual(['a 0||R'])
      expect(await textsOf({ kind: 'key', ids: ['b'] })).toEqual(['b B'])
      await second.close()
    })

    it('changes a document only if its text has not changed since the read', async () => {
      for (const kind of ['key', 'reader', 'secret'] as const) {
        const id = kind === 'secret' ? '' : 'x'
        expect(await change({ kind, id, if: 'present', to: '0||1' })).toBe(false)
        expect(await change({ kind, id, if: { text: '' }, to: '0||1' })).toBe(false)
        expect(await change({ kind, id, if: 'absent', to: '0||1' })).toBe(true)
        expect(await change({ kind, id, if: 'absent', to: '0||2' })).toBe(false)
        expect(await change({ kind, id, if: { text: '0||2' }, to: '0||3' })).toBe(false)
        expect(await change({ kind, id, if: { text: '0||1' }, to: '0||4' })).toBe(true)
        expect(await change({ kind, id, if: 'present', to: '0||5' })).toBe(true)
        expect(await textsOf({ kind, ids: [id] })).toEqual([`${id} 0||5`])
        expect(await change({ kind, id, if: { text: '0||4' }, to: null })).toBe(false)
        expect(await change({ kind, id, if: { text: '0||5' }, to: null })).toBe(true)
        expect(await read({ kind, ids: [id] })).toEqual([])
      }
    })

    it('accepts one of many simultaneous changes of the same text', async () => {
      await change({ kind: 'key', id: 'x', to: 'before' })
      const second = await fixture.second()
      const won = await Promise.all(
        Array.from({ length: 20 }, async (_, n) => {
          const changes = [{ kind: 'key', id: 'x', if: { text: 'before' }, to: `by ${n}` }] as const
          return (await (n % 2 === 0 ? fixture.store : second).documents({ changes })).isChanged
        }),
      )
      expect(won.filter(Boolean)).toHaveLength(1)
      expect(await textsOf({ kind: 'key' })).toEqual([`x by ${won.indexOf(true)}`])
      await second.close()
    })

    it('makes several changes or none of them, and returns the documents after them', async () => {
      await change({ kind: 'key', id: 'a', to: 'A' })
      const changes = [
        { kind: 'key', id: 'b', to: 'B' },
        { kind: 'key', id: 'a', to: null },
        { kind: 'secret', id: '', if: 'absent', to: 'S' },
      ] as const
      const first = await fixture.store.documents({ changes, read: [{ kind: 'key' }] })
      expect(first).toEqual({ isChanged: true, documents: [[{ id: 'b', text: 'B', lastTask: null }]] })
      const again = await fixture.store.documents({
        changes: [{ kind: 'key', id: 'c', to: 'C' }, ...changes],
        read: [{ kind: 'key' }],
      })
      expect(again).toEqual({ isChanged: false, documents: [[{ id: 'b', text: 'B', lastTask: null }]] })
    })

    it('checks a condition without a change', async () => {
      await change(schedule('a', 'A'))
      expect(await change({ kind: 'schedule', id: 'a', type: 't', if: { text: 'A' } })).toBe(true)
      expect(await change({ kind: 'schedule', id: 'a', type: 't', if: { text: 'B' } })).toBe(false)
      expect(await textsOf({ kind: 'schedule' })).toEqual(['a A'])
    })

    it('keeps the last task of a document when only its text changes', async () => {
      await change(schedule('a', 'A', { lastTask: { at: 5, taskId: 'of-another-store' } }))
      await change(schedule('b', 'B', { lastTask: { at: 6, taskId: null } }))
      await change(schedule('a', 'A2'))
      expect(await read({ kind: 'schedule' })).toEqual([
        { id: 'a', text: 'A2', lastTask: { at: 5, taskId: 'of-another-store' } },
        { id: 'b', text: 'B', lastTask: { at: 6, taskId: null } },
      ])
      await change(schedule('a', 'A', { to: null }))
      await change(schedule('a', 'A3'))
      expect((await read({ kind: 'schedule' }))[0]).toEqual({ id: 'a', text: 'A3', lastTask: null })
    })
  })

  onDueContract()
  submitWithContract()

  function onDueContract(): void {
    describe('documents that are due', () => {
      it('are passed to the handler of a sweep until they are moved, and the sweep reports when the next one is due', async () => {
        const seen: string[][] = []
        const handler: DueHandler = async (due, at, max) => {
          expect(at).toBe(fixture.now)
          // A store may also sweep by itself.
          if (max === 10) seen.push(due.map(({ id, text }) => `${id} ${text}`).sort())
          return { changed: due.length, more: false, nextAt: null }
        }
        fixture.store.onDue(handler)
        await change(schedule('a', 'A', { dueAt: START + 1_000 }))
        await change(schedule('b', 'B', { dueAt: START + 1_000 }))
        await change(schedule('c', 'C', { dueAt: START + 3_000 }), schedule('never', 'N'))
        expect((await fixture.store.sweep(10)).nextAt).toBe(START + 1_000)
        expect(seen).toEqual([])
        fixture.now = START + 1_000
        expect(await fixture.store.sweep(10)).toMatchObject({ changed: 2, nextAt: START + 3_000 })
        await change(schedule('a', 'A2', { dueAt: START + 5_000 }))
        await fixture.store.sweep(10)
        await change(schedule('b', 'B', { to: null }))
        await fixture.store.sweep(10)
        expect(seen).toEqual([['a A', 'b B'], ['b B']])
        fixture.now = START + 5_000
        await fixture.store.sweep(10)
        expect(seen.at(-1)).toEqual(['a A2', 'c C'])
      })

      it('are passed to it in bounded numbers', async () => {
        for (let n = 0; n < 5; n++) await change(schedule(`s${n}`, `S${n}`, { dueAt: START }))
        const counts: number[] = []
        fixture.store.onDue(async (due, _, max) => {
          if (max === 2) counts.push(due.length)
          return { changed: 0, more: false, nextAt: null }
        })
        await fixture.store.sweep(2)
        expect(counts).toEqual([2])
      })
    })
  }

  function submitWithContract(): void {
    const tick = (spec: Partial<TaskSpec>, was: string, more: { afterLast?: boolean; at?: number } = {}) => {
      const moved = { kind: 'schedule', id: 'a', type: 't', if: { text: was }, to: `${was}+`, dueAt: null } as const
      const task = completeSpec({ type: 't', ...spec })
      return fixture.store.submitWith({ spec: task, change: moved, at: START, afterLast: false, ...more })
    }
    const pending = async () => (await fixture.store.list({ status: 'pending', limit: 10 })).tasks

    describe('a task with a document', () => {
      beforeEach(async () => {
        await declare(fixture.store)
        await change(schedule('a', 'A', { dueAt: START }))
      })

      it('is accepted if the document has not changed since the read, and becomes its last task', async () => {
        expect(await tick({ payload: 1 }, 'B')).toBe('stale')
        expect(await pending()).toEqual([])
        expect(await tick({ payload: 1 }, 'A', { at: 7 })).toBe('accepted')
        const [task] = await pending()
        expect(task).toMatchObject({ type: 't', payload: 1 })
        expect(await read({ kind: 'schedule' })).toEqual([
          { id: 'a', text: 'A+', lastTask: { at: 7, taskId: task!.id } },
        ])
        expect(await tick({ payload: 2 }, 'A')).toBe('stale')
        expect(await pending()).toHaveLength(1)
      })

      it('is accepted once if several processes submit it', async () => {
        const second = await fixture.second()
        const change = { kind: 'schedule', id: 'a', type: 't', if: { text: 'A' }, to: 'A+' } as const
        const accompanied = { spec: completeSpec({ type: 't' }), change, at: START, afterLast: false }
        const answers = await Promise.all(
          Array.from({ length: 10 }, (_, n) => (n % 2 === 0 ? fixture.store : second).submitWith(accompanied)),
        )
        expect(answers.filter((answer) => answer === 'accepted')).toHaveLength(1)
        expect(await pending()).toHaveLength(1)
        await second.close()
      })

      it('waits for the end of the last task, if required', async () => {
        expect(await tick({}, 'A', { afterLast: true })).toBe('accepted')
        expect(await tick({}, 'A+', { afterLast: true })).toBe('open')
        expect(await textsOf({ kind: 'schedule' })).toEqual(['a A+'])
        await fixture.store.change('cancel', [(await pending())[0]!.id])
        expect(await tick({}, 'A+', { afterLast: true })).toBe('accepted')
        expect(await tick({}, 'A++')).toBe('accepted')
        expect(await pending()).toHaveLength(2)
      })

      it('is the earlier task of its key, also for a different request', async () => {
        const [first] = await fixture.store.submit([completeSpec({ type: 't', payload: 'mine', idempotencyKey: 'k' })])
        expect(await tick({ payload: 'other', idempotencyKey: 'k' }, 'A')).toBe('accepted')
        expect((await read({ kind: 'schedule' }))[0]!.lastTask).toEqual({ at: START, taskId: first!.task.id })
        expect(await pending()).toHaveLength(1)
      })

      it('changes nothing when the queue is full', async () => {
        await fixture.restart({ pendingMax: 1 })
        await declare(fixture.store)
        await change(schedule('a', 'A'))
        await fixture.store.submit([completeSpec({ type: 't' })])
        await expect(tick({}, 'A')).rejects.toMatchObject({ code: 'queue_full' })
        expect(await read({ kind: 'schedule' })).toEqual([{ id: 'a', text: 'A', lastTask: null }])
      })

      it('may have an unknown type', async () => {
        await fixture.restart({ typeTtlMs: 1_000 })
        await declare(fixture.store)
        await change(schedule('a', 'A'))
        fixture.now += 2_000
        await expect(fixture.store.submit([completeSpec({ type: 't' })])).rejects.toMatchObject({
          code: 'unknown_type',
        })
        expect(await tick({}, 'A')).toBe('accepted')
      })
    })
  }
}
