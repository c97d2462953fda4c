import { describe, expect, it } from 'vitest'
import { completeSpec } from '../../src/task/task.ts'
import type { Uses } from '../../src/task/uses.ts'
import { type Fixture, WORKER } from './fixture.ts'
import { limitSteps } from './limit-steps.ts'

/** The units of named limits that a task uses. */
export function usesContract(fixture: Fixture): void {
  const { submit, claim, succeed, fail, get, limit } = fixture
  const { set, add, names, next, facts } = limitSteps(fixture)

  describe('the uses of a task', () => {
    it('are kept with the task, and are part of the request of its idempotency key', async () => {
      await set('gpu', { max: 5 })
      const id = await add('a', { gpu: 2 }, { idempotencyKey: 'k' })
      expect((await get(id)).uses).toEqual({ gpu: 2 })
      expect((await fixture.queue.list({ limit: 9 })).tasks[0]!.uses).toEqual({ gpu: 2 })
      expect((await claim(9))[0]!.task.uses).toEqual({ gpu: 2 })
      await expect(add('a', { gpu: 1 }, { idempotencyKey: 'k' })).rejects.toMatchObject({
        code: 'idempotency_conflict',
      })
      expect(await add('a', { gpu: 2 }, { idempotencyKey: 'k' })).toBe(id)
    })

    it('keep the group, by which tasks are listed', async () => {
      await set('gpu', { max: 5 })
      await add('a', { gpu: 2 }, { group: 'acme' })
      await submit({ payload: 'b', group: 'acme' })
      await submit({ payload: 'c', group: 'acme2' })
      const { tasks } = await fixture.queue.list({ group: 'acme', limit: 9 })
      expect(tasks.map(({ payload, group }) => `${payload} ${group}`).sort()).toEqual(['a acme', 'b acme'])
    })

    it('are refused as a whole for a limit that does not exist, with the names', async () => {
      await set('gpu', { max: 5 })
      const specs = [{ gpu: 1 }, { gpu: 1, cpu: 1, 'tenant/a': 1 }].map((uses) => completeSpec({ type: 't', uses }))
      await expect(fixture.queue.submit(specs)).rejects.toMatchObject({
        code: 'unknown_limit',
        errors: [{ path: 'tasks[1].uses.cpu' }, { path: 'tasks[1].uses.tenant/a' }],
      })
      expect((await fixture.queue.list({ limit: 9 })).tasks).toEqual([])
    })

    it('are refused if the limit never allows so many units', async () => {
      await set('gpu', { max: 5, rate: { max: 3, perMs: 1_000 } })
      await expect(add('a', { gpu: 4 })).rejects.toMatchObject({
        code: 'invalid_request',
        errors: [{ path: 'tasks[0].uses.gpu', message: expect.stringMatching(/allows 3/) }],
      })
      await set('gpu', { max: 2 })
      await expect(add('a', { gpu: 3 })).rejects.toMatchObject({ code: 'invalid_request' })
      expect(await add('a', { gpu: 2 })).toBeTypeOf('string')
      await set('cpu', { max: 4 })
      await expect(add('a', { cpu: 5, gpu: 3 })).rejects.toMatchObject({
        code: 'invalid_request',
        errors: [
          { path: 'tasks[0].uses.cpu', message: expect.stringMatching(/allows 4/) },
          { path: 'tasks[0].uses.gpu', message: expect.stringMatching(/allows 2/) },
        ],
      })
    })

    it('are refused where they are not valid', async () => {
      await set('gpu', { max: 5 })
      const many = Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`l${index}`, 1]))
      const bad: unknown[] = [{ gpu: 0 }, { gpu: -1 }, { gpu: 1.5 }, { gpu: '1' }, { gpu: 1e7 }, many]
      bad.push(
        { 'type:t': 1 },
        { 'group:t/a': 1 },
        { 'tenant/*': 1 },
        { '': 1 },
        { '.': 1 },
        { '..': 1 },
        { 'a\u0000': 1 },
        { '\ud800': 1 },
      )
      for (const uses of bad) {
        await expect(submit({ uses: uses as Uses })).rejects.toMatchObject({ code: 'invalid_request' })
      }
    })

    it('may name limits of any characters', async () => {
      for (const name of [
        'ü/*',
        '__proto__',
        'a b',
        '"',
        '%',
        "'",
        '#+',
        '日本',
        'x'.repeat(200),
        '/',
        '123',
        '|',
        '...',
      ]) {
        await set(name, { max: 1 })
        const used = name === 'ü/*' ? 'ü/ö' : name
        await add('a', Object.fromEntries([[used, 1]]))
        await add('b', Object.fromEntries([[used, 1]]))
        const [lease, more] = await claim(9)
        expect([lease?.task.payload, more]).toEqual(['a', undefined])
        expect(await facts(used)).toMatchObject({ inUse: 1, waiting: 1, name: used })
        await succeed(lease!.lease)
        await succeed((await claim(1))[0]!.lease)
      }
    })

    it('hold across delays, retries, flows and explicit retries', async () => {
      await set('gpu', { max: 1 })
      const first = await add('a', { gpu: 1 }, { maxRetry: 0 })
      await add('b', { gpu: 1 }, { after: [first], onFailure: 'run' })
      await add('c', { gpu: 1 }, { delayMs: 500 })
      const [a] = await claim(9)
      await fail(a!.lease, { retry: false })
      fixture.now += 500
      const [b, none] = await claim(9)
      expect([b!.task.payload, none]).toEqual(['b', undefined])
      await fixture.queue.retry({ ids: [first] })
      expect(await next()).toBe('')
      await succeed(b!.lease)
      const [c] = await claim(9)
      await succeed(c!.lease)
      expect(await next()).toBe(c!.task.payload === 'c' ? 'a' : 'c')
    })
  })

  describe('a claim of named groups', () => {
    const of = async (groups: string[], want = 9) => (await fixture.queue.turn({ worker: WORKER, want, groups })).leases

    it('starts what the limits allow, the longest waiting first', async () => {
      await set('gpu', { max: 2 })
      await set('net', { max: 1 })
      for (const name of ['a1', 'b1']) await add(name, { gpu: 1 }, { group: name[0]! })
      for (const name of ['a2', 'a3', 'b2']) await add(name, { net: 1 }, { group: name[0]! })
      await add('a4', { gpu: 1 }, { group: 'a' })
      await add('a5', {}, { group: 'a' })
      expect(names(await of(['c']))).toBe('')
      const [first] = await of(['b'], 1)
      expect(first!.task.payload).toBe('b1')
      const ofA = await of(['a'])
      expect(names(ofA).split(' ').sort()).toEqual(['a1', 'a2', 'a5'])
      expect(names(await of(['a', 'b']))).toBe('')
      await succeed(first!.lease)
      expect(names(await of(['a', 'b'], 1))).toBe('a4')
      await succeed(ofA.find(({ task }) => task.payload === 'a2')!.lease)
      const [third] = await of(['a', 'b'])
      expect(third!.task.payload).toBe('a3')
      await succeed(third!.lease)
      expect(names(await of(['a', 'b']))).toBe('b2')
      expect([(await facts('gpu')).inUse, (await facts('net')).inUse]).toEqual([2, 1])
    })

    it('finds the tasks behind those that were canceled', async () => {
      await set('gpu', { max: 1 })
      const ids: string[] = []
      for (const name of ['a1', 'a2', 'a3']) ids.push(await add(name, { gpu: 1 }, { group: 'a' }))
      await fixture.queue.cancel({ ids: [ids[0]!] })
      expect(names(await of(['a']))).toBe('a2')
      expect(names(await of(['a']))).toBe('')
      await fixture.queue.cancel({ ids: [ids[2]!] })
      expect((await facts('gpu')).waiting).toBe(0)
    })

    it('goes past tasks whose limit is used up elsewhere', async () => {
      await set('gpu', { max: 1 })
      await set('net', { max: 1 })
      await add('b1', { net: 1 }, { group: 'b' })
      for (const limit of ['net', 'gpu']) {
        fixture.now += 1
        await add(limit, { [limit]: 1 }, { group: 'a' })
      }
      expect(names(await of(['b']))).toBe('b1')
      expect(names(await of(['a'], 1))).toBe('gpu')
    })

    it('starts no more than the limit of a group, and continues when that allows it', async () => {
      await limit('t', null, { groupConcurrency: 2 })
      await set('gpu', { max: 9 })
      await set('net', { max: 9 })
      for (const name of ['a1', 'a2', 'b1']) await add(name, { gpu: 1 }, { group: name[0]! })
      for (const name of ['a3', 'a4']) await add(name, { net: 1 }, { group: name[0]! })
      const leases = await of(['a'])
      expect(leases).toHaveLength(2)
      expect(names(await of(['a']))).toBe('')
      await succeed(leases[0]!.lease)
      const more = await of(['a'])
      expect(more).toHaveLength(1)
      await succeed(leases[1]!.lease)
      await succeed(more[0]!.lease)
      const all = [...leases, ...more, ...(await of(['a', 'b']))].map(({ task }) => task.payload)
      expect(all.sort()).toEqual(['a1', 'a2', 'a3', 'a4', 'b1'])
    })
  })

  describe('limits of keys', () => {
    it('apply to each key by itself, and one key can have its own', async () => {
      await set('tenant/*', { max: 1 })
      await set('tenant/big', { max: 2 })
      for (const name of ['a1', 'a2', 'b1', 'big1', 'big2', 'big3']) {
        await add(name, { [`tenant/${name.slice(0, -1)}`]: 1 })
      }
      expect((await next()).split(' ').sort().join(' ')).toBe('a1 b1 big1 big2')
      await set('tenant/*', { max: 2 })
      expect(await next()).toBe('a2')
      await set('tenant/big', { remove: true }).then(
        () => expect.unreachable(),
        (error) => expect(error).toMatchObject({ code: 'limit_in_use' }),
      )
      await set('tenant/big', { max: 3 })
      expect(await next()).toBe('big3')
    })

    it('are held by key', async () => {
      await set('tenant/*', { max: 5 })
      await add('a1', { 'tenant/a': 1 })
      await add('a2', { 'tenant/a': 1 })
      await add('b1', { 'tenant/b': 1 })
      const [first] = await claim(1)
      const outcome = { kind: 'held', error: 'no', holdMs: 2_000, limit: 'tenant/a' } as const
      await fixture.queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease: first!.lease, outcome }] })
      expect(await next()).toBe('b1')
      fixture.now += 2_000
      expect(await next()).toBe('a1 a2')
    })

    it('are held together, and say so, but for a key with a limit of its own', async () => {
      await set('tenant/*', { max: 5 })
      await set('tenant/big', { max: 5 })
      for (const key of ['a', 'big']) await add(key, { [`tenant/${key}`]: 1 })
      await set('tenant/*', { holdMs: 2_000 })
      expect((await facts('tenant/a')).heldUntil).toBe(fixture.now + 2_000)
      expect((await facts('tenant/big')).heldUntil).toBeNull()
      expect(await next()).toBe('big')
      fixture.now += 2_000
      expect(await next()).toBe('a')
    })

    it('set the limit of one group instead of the common one', async () => {
      await limit('t', null, { groupConcurrency: 1 })
      await set('group:t/big', { max: 3 })
      for (const name of ['a1', 'a2', 'big1', 'big2', 'big3', 'big4']) {
        await submit({ payload: name, group: name.slice(0, -1) })
      }
      expect((await next()).split(' ').sort().join(' ')).toBe('a1 big1 big2 big3')
      await set('group:t/big', { remove: true })
      expect(await next()).toBe('')
      await set('group:t/big', { max: null })
      expect(await next()).toBe('big4')
    })
  })

  describe('a hold of a named limit', () => {
    const hold = (lease: string, limit: string | null, holdMs = 5_000) =>
      fixture.queue.turn({
        worker: WORKER,
        want: 0,
        outcomes: [{ lease, outcome: { kind: 'held', error: 'HTTP 429', holdMs, limit } }],
      })

    it('by a handler holds the tasks that use it, of every type, and no others', async () => {
      await set('openai', { max: 10 })
      const id = await add('a', { openai: 1 })
      await add('b', { openai: 1 }, { type: 'u' })
      await add('c', {})
      const [first] = await claim(1)
      await hold(first!.lease, 'openai')
      expect(await get(id)).toMatchObject({ status: 'pending', attempts: 0, error: 'HTTP 429' })
      expect(await facts('openai')).toMatchObject({ heldUntil: fixture.now + 5_000, inUse: 0 })
      expect(await next()).toBe('c')
      fixture.now += 4_999
      expect(await next()).toBe('')
      fixture.now += 1
      expect((await next()).split(' ').sort().join(' ')).toBe('a b')
    })

    it('is not shortened by a later one', async () => {
      await set('openai', { max: 10 })
      await add('a', { openai: 1 })
      await add('b', { openai: 1 })
      const [first, second] = await claim(2)
      await hold(first!.lease, 'openai', 5_000)
      await hold(second!.lease, 'openai', 1_000)
      expect((await facts('openai')).heldUntil).toBe(fixture.now + 5_000)
      fixture.now += 4_999
      expect(await next()).toBe('')
      fixture.now += 1
      expect(await next()).toBe('a b')
    })

    it('of a limit that the task does not use holds its type', async () => {
      await set('openai', { max: 10 })
      await add('a', { openai: 1 })
      await add('b', {})
      const [first] = await claim(1)
      await hold(first!.lease, 'other')
      expect(await next()).toBe('')
      expect((await facts('openai')).heldUntil).toBeNull()
    })

    it('by an operator begins, is changed and ends', async () => {
      await set('openai', { max: 10 })
      await add('a', { openai: 1 })
      await set('openai', { holdMs: 9_000 })
      expect(await next()).toBe('')
      await set('openai', { holdMs: 0 })
      expect(await next()).toBe('a')
    })
  })
}
