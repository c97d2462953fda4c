import { describe, expect, it } from 'vitest'
import { LOG_LIMITS, logText } from '../../src/task/log-line.ts'
import { type Fixture, WORKER } from './fixture.ts'

export function logsContract(fixture: Fixture): void {
  const { submit, claim, fail, succeed } = fixture
  const of = async (id: string, after = 0, max = 10_000) => (await fixture.queue.logs(id, after, max))!
  const messagesOf = async (id: string) => (await of(id)).lines.map(({ message }) => message)
  const line = (message: string, fields = '') => logText(fixture.now, 'info', message, fields)
  const log = (lease: string, lines: string[], more: object = {}) =>
    fixture.queue.turn({ worker: WORKER, want: 0, logs: [{ lease, lines }], ...more })

  describe('logs', () => {
    it('keeps the lines of each attempt, numbered over all of the task', async () => {
      const { id } = await submit({ queueTimeoutMs: 0 })
      expect(await of(id)).toMatchObject({ task: { id }, lines: [], leftOut: 0 })
      const [one] = await claim()
      await log(one!.lease, [line('a', '{"at":1}'), line('é "b"\n|2')])
      await log(one!.lease, [line('c')])
      await fail(one!.lease)
      fixture.now += 1_000_000
      const [two] = await claim()
      await log(two!.lease, [line('d')])
      const time = new Date(1_700_000_000_000).toISOString()
      const first = { delivery: 1, attempt: 1, time, level: 'info' }
      expect((await of(id)).lines).toEqual([
        { n: 1, ...first, message: 'a', fields: { at: 1 } },
        { n: 2, ...first, message: 'é "b"\n|2', fields: null },
        { n: 3, ...first, message: 'c', fields: null },
        {
          ...first,
          n: 4,
          delivery: 2,
          attempt: 2,
          time: new Date(fixture.now).toISOString(),
          message: 'd',
          fields: null,
        },
      ])
      expect((await of(id, 1, 2)).lines.map(({ n }) => n)).toEqual([2, 3])
      expect((await of(id, 4)).lines).toEqual([])
      expect(await fixture.queue.logs('none', 0, 10)).toBeNull()
    })

    it('takes lines with the outcome, in one turn', async () => {
      const tasks = [await submit(), await submit()]
      const leases = await claim(2)
      const outcomes = leases.map(({ lease }, at) => ({
        lease,
        outcome:
          at === 0
            ? ({ kind: 'success', result: 1 } as const)
            : ({ kind: 'failure', error: 'no', retry: false, delayMs: null } as const),
      }))
      const logs = leases.map(({ lease }, at) => ({ lease, lines: [line(`last of ${at}`)] }))
      const { settled } = await fixture.queue.turn({ worker: WORKER, want: 0, outcomes, logs })
      expect(settled.map(({ status }) => status)).toEqual(['success', 'failed'])
      expect(await messagesOf(tasks[0]!.id)).toEqual(['last of 0'])
      expect(await messagesOf(tasks[1]!.id)).toEqual(['last of 1'])
    })

    it('takes no lines for a lease that is not held, and none that cannot be stored', async () => {
      const { id } = await submit()
      const [held] = await claim()
      await log(`${held!.lease}1`, [line('of another')])
      await log('none', [line('of none')])
      await log(held!.lease, [line('kept'), 'two\nlines', '"half \ud83d"', `"${'x'.repeat(20_000)}"`, line('kept too')])
      expect(await messagesOf(id)).toEqual(['kept', 'kept too'])
      await succeed(held!.lease)
      await log(held!.lease, [line('too late')])
      expect(await messagesOf(id)).toEqual(['kept', 'kept too'])
    })

    it('keeps the last lines, and says how many are gone', async () => {
      await fixture.opened.cleanup()
      await fixture.start({ logLinesMax: 100 })
      const { id } = await submit()
      const [held] = await claim()
      for (let n = 0; n < 30; n++)
        await log(
          held!.lease,
          Array.from({ length: 10 }, (_, at) => line(`${n * 10 + at}`)),
        )
      const { lines, leftOut } = await of(id)
      expect(lines.map(({ message }) => message)).toEqual(Array.from({ length: 100 }, (_, at) => `${200 + at}`))
      expect([leftOut, lines[0]!.n]).toEqual([200, 201])
      await log(
        held!.lease,
        Array.from({ length: 250 }, (_, at) => line(`more ${at}`)),
      )
      expect(await of(id)).toMatchObject({ leftOut: 450, lines: { 0: { n: 451, message: 'more 150' }, length: 100 } })
    })

    it('bounds the bytes of a task', async () => {
      const { id } = await submit()
      const [held] = await claim()
      for (let n = 0; n < 60; n++) await log(held!.lease, [line('x'.repeat(8_000)), line('y'.repeat(800))])
      const { lines, leftOut } = await of(id)
      const bytes = lines.reduce((sum, { message }) => sum + Buffer.byteLength(message!), 0)
      expect(bytes).toBeGreaterThan(LOG_LIMITS.bytesMax / 2)
      expect(bytes).toBeLessThan(LOG_LIMITS.bytesMax * 1.1)
      expect(lines.length + leftOut).toBe(120)
    })

    it('counts lines that a worker has left out', async () => {
      const { id } = await submit()
      const [held] = await claim()
      await log(held!.lease, [line('a')])
      await fixture.queue.turn({
        worker: WORKER,
        want: 0,
        logs: [{ lease: held!.lease, lines: [line('z')], skipped: 7 }],
      })
      expect((await of(id)).lines.map(({ n, message }) => [n, message])).toEqual([
        [1, 'a'],
        [9, 'z'],
      ])
    })

    it('keeps none if that is switched off', async () => {
      await fixture.opened.cleanup()
      await fixture.start({ logLinesMax: 0 })
      const { id } = await submit()
      const [held] = await claim()
      await log(held!.lease, [line('a')])
      expect(await messagesOf(id)).toEqual([])
      expect((await succeed(held!.lease)).status).toBe('success')
    })

    it('survives an explicit retry, and goes with its task', async () => {
      await fixture.opened.cleanup()
      await fixture.start({ retention: { ageMs: 60_000, countMax: 100 } })
      const tasks = [await submit({ maxRetry: 0, queueTimeoutMs: 0 }), await submit({ queueTimeoutMs: 0 })]
      for (const { lease } of await claim(2)) {
        await log(lease, [line('secret')])
        await fail(lease, { retry: false })
      }
      await fixture.queue.retry({ ids: [tasks[0]!.id] })
      expect(await messagesOf(tasks[0]!.id)).toEqual(['secret'])
      await succeed((await claim())[0]!.lease)
      await fixture.queue.erase([tasks[0]!.id])
      expect(await fixture.queue.logs(tasks[0]!.id, 0, 10)).toBeNull()
      fixture.now += 60_001
      while ((await fixture.queue.sweep(100)).more);
      expect(await fixture.queue.logs(tasks[1]!.id, 0, 10)).toBeNull()
    })
  })
}
