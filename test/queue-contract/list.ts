import { describe, expect, it } from 'vitest'
import { CURSOR_CHARS_MAX } from '../../src/queue/queue.ts'
import type { Status } from '../../src/task/status.ts'
import type { Fixture } from './fixture.ts'

export function listContract(fixture: Fixture): void {
  const { submit, claim, fail, succeed } = fixture
  const all = async (query: object, limit = 1) => {
    const found: string[] = []
    let cursor: string | undefined
    do {
      const page = await fixture.queue.list({ ...query, limit, ...(cursor ? { cursor } : {}) })
      found.push(...page.tasks.map(({ id }) => id))
      expect(page.nextCursor?.length ?? 0).toBeLessThanOrEqual(CURSOR_CHARS_MAX)
      cursor = page.nextCursor ?? undefined
    } while (cursor)
    return found
  }

  describe('list', () => {
    it('lists newest first, and pending tasks in the order of their start, page by page', async () => {
      const ids: string[] = []
      for (const spec of [{}, { priority: 5 }, { delayMs: 50 }, { type: 'u' }]) ids.push((await submit(spec)).id)
      expect(await all({})).toEqual([...ids].reverse())
      expect(await all({ status: 'pending' })).toEqual([1, 0, 3, 2].map((index) => ids[index]))
      expect(await all({ type: 'u' })).toEqual([ids[3]])
      expect(await all({ bare: true })).toEqual([...ids].reverse())
      expect(await all({ type: 't', bare: true }, 2)).toEqual([2, 1, 0].map((index) => ids[index]))
    })

    it('lists the tasks of other processes in one that has only just begun', async () => {
      const { id } = await submit({})
      const other = await fixture.opened.second()
      expect((await other.list({ limit: 9 })).tasks).toMatchObject([{ id }])
    })

    it.each([
      'rubbish',
      ...[['1', {}], [0.5, {}], [-1, {}], [0, { i: 1 }], [0, { i: 'a\n' }], [0, null], []].map((cursor) =>
        Buffer.from(JSON.stringify(cursor)).toString('base64url'),
      ),
    ])('refuses the cursor %s, which no list has returned', async (cursor) => {
      await submit({})
      await expect(fixture.queue.list({ limit: 1, cursor })).rejects.toMatchObject({ code: 'invalid_cursor' })
    })

    it('lists running tasks newest first, also those that were asked to stop', async () => {
      const ids: string[] = []
      for (let n = 0; n < 3; n++) ids.push((await submit({})).id)
      await claim(3)
      await fixture.queue.cancel({ ids: [ids[1]!] })
      expect(await all({ status: 'processing' })).toEqual(ids.toReversed())
      expect(await all({ status: 'processing', type: 't' }, 100)).toEqual(ids.toReversed())
    })

    it('lists more than a thousand tasks that were submitted, and ended, one by one', async () => {
      const ids: string[] = []
      for (let n = 0; n < 1_100; n++) ids.push((await submit({})).id)
      expect(await all({}, 1_000)).toEqual(ids.toReversed())
      for (const id of ids) await fixture.queue.cancel({ ids: [id] })
      expect(new Set(await all({ status: 'canceled' }, 1_000))).toEqual(new Set(ids))
    })

    it('lists the tasks of very many types in pages whose cursors stay short', async () => {
      const types = Array.from({ length: 120 }, (_, n) => `${'t'.repeat(90)}${n}`)
      for (const type of types) await fixture.queue.configureType(type, { declared: true })
      // Each type has a place in each page: the tasks of all types alternate.
      const ids: string[] = []
      for (let round = 0; round < 3; round++) {
        for (const type of types) ids.push((await submit({ type, delayMs: round === 2 ? 1_000 : 0 })).id)
        fixture.now += 1
      }
      const lists = [await all({}, 50), await all({ status: 'pending' }, 50)]
      for (const found of lists) {
        expect(found).toHaveLength(ids.length)
        expect(new Set(found)).toEqual(new Set(ids))
      }
      const placeOf = new Map(ids.map((id, n) => [id, Math.floor(n / types.length)]))
      const rounds = lists[1]!.map((id) => placeOf.get(id)!)
      expect(rounds).toEqual(rounds.toSorted())
    })

    it.each([
      ['failed', async () => void (await fail((await claim())[0]!.lease))],
      ['canceled', async (id) => void (await fixture.queue.cancel({ ids: [id] }))],
      [
        'timeout',
        async () => {
          fixture.now += 11
          await fixture.queue.sweep(100)
        },
      ],
    ] as [Status, (id: string) => Promise<void>][])(
      'lists a task once that was retried and ended as %s again, as counts and pages do',
      async (status, end) => {
        const others = [await submit({ maxRetry: 0, queueTimeoutMs: 10 })]
        await end(others[0]!.id)
        const { id } = await submit({ maxRetry: 0, queueTimeoutMs: 10 })
        await end(id)
        for (let round = 0; round < 3; round++) {
          await fixture.queue.retry({ ids: [id] })
          expect(await all({ status })).toEqual([others[0]!.id])
          await end(id)
        }
        others.push(await submit({ maxRetry: 0, queueTimeoutMs: 10 }))
        await end(others[1]!.id)
        const expected = [id, ...others.map((task) => task.id)].sort()
        for (const limit of [1, 2, 100]) expect((await all({ status }, limit)).sort()).toEqual(expected)
        expect((await all({ status, type: 't' }, 2)).sort()).toEqual(expected)
        expect((await fixture.queue.stats()).counts[status]).toBe(3)
        await fixture.queue.retry({ ids: [id] })
        await succeed((await claim())[0]!.lease)
        expect((await all({ status })).sort()).toEqual(others.map((task) => task.id).sort())
      },
    )

    it('lists payloads, results and errors of any length in whole', async () => {
      const [texts, errors] = [
        [10, 5_000, 200_000],
        [16_000, 5_000, 10],
      ].map((sizes) => sizes.map((n) => 'x'.repeat(n)))
      for (const payload of texts!) await submit({ payload })
      for (const [index, { lease }] of (await claim(3)).entries()) await succeed(lease, texts!.at(-1 - index)!)
      for (const payload of texts!) await submit({ payload, maxRetry: 0 })
      for (const [index, { lease }] of (await claim(3)).entries()) await fail(lease, { error: errors![index] })
      const tasks = (await fixture.queue.list({ limit: 10 })).tasks.reverse()
      expect(tasks.map(({ payload }) => payload)).toEqual([...texts!, ...texts!])
      expect(tasks.map(({ result }) => result)).toEqual([...texts!.toReversed(), null, null, null])
      expect(tasks.map(({ error }) => error)).toEqual([null, null, null, ...errors!])
    })

    it.each(['pending', 'processing', 'success'] as const)(
      'bounds a page of %s tasks by its bytes, and misses none over the pages',
      async (status) => {
        const long = 'x'.repeat(900 * 1_024)
        for (let n = 0; n < 12; n++) await submit({ type: n % 2 === 0 ? 't' : 'u', payload: [n, long] })
        if (status !== 'pending') {
          const leases = await fixture.claim(12)
          if (status === 'success') for (const { lease } of leases) await fixture.succeed(lease)
        }
        const pages: unknown[][] = []
        for (let cursor: string | null | undefined; cursor !== null; ) {
          const page = await fixture.queue.list({ status, limit: 1_000, ...(cursor ? { cursor } : {}) })
          pages.push(page.tasks.map(({ payload }) => (payload as [number])[0]))
          cursor = page.nextCursor
        }
        expect(pages.flat().sort((a, b) => Number(a) - Number(b))).toEqual([...Array(12).keys()])
        for (const page of pages) expect(page.length).toBeLessThanOrEqual(6)
        if (status === 'pending') expect(pages.flat()).toEqual([...Array(12).keys()])
        const bare = await fixture.queue.list({ status, limit: 1_000, bare: true })
        expect(bare.tasks.map(({ payload, result }) => [payload, result])).toEqual(Array(12).fill([null, null]))
      },
    )
  })
}
