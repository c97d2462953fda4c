import { beforeEach, describe, expect, it } from 'vitest'
import type { Lease } from '../../src/queue/queue.ts'
import { type Fixture, WORKER } from './fixture.ts'

/** Groups that share running time. `-` is the tasks without a group. */
export function groupTimeContract(fixture: Fixture): void {
  const { limit, submit, claim, succeed } = fixture

  /** How long the tasks of each group run; a worker with so many slots runs them for a while, and counts the time. */
  class Load {
    readonly used: Record<string, number> = {}
    readonly #running = new Map<string, { endsAt: number; group: string; startedAt: number }>()
    readonly #waiting: Record<string, number> = {}
    readonly #runMs: Record<string, number>
    readonly #slots: number
    /** Waiting tasks that each group has at any time. */
    readonly #backlog: (group: string) => number
    readonly #more: (group: string, n: number) => object
    #n = 0

    constructor(
      runMs: Record<string, number>,
      slots: number,
      backlog: (group: string) => number = () => slots + 1,
      more: (group: string, n: number) => object = () => ({}),
    ) {
      this.#runMs = runMs
      this.#slots = slots
      this.#backlog = backlog
      this.#more = more
      for (const group in runMs) this.used[group] = this.#waiting[group] = 0
    }

    /** The time that the tasks of a group have run, including those that run now. */
    time(group: string): number {
      const running = [...this.#running.values()].filter((task) => task.group === group)
      return running.reduce((sum, { startedAt }) => sum + fixture.now - startedAt, this.used[group]!)
    }

    runningOf(group: string): number {
      return [...this.#running.values()].filter((task) => task.group === group).length
    }

    async run(ms: number): Promise<void> {
      const until = fixture.now + ms
      while (fixture.now < until) {
        await this.#refill()
        const free = this.#slots - this.#running.size
        if (free > 0) for (const lease of await claim(free)) this.#start(lease)
        const next = Math.min(...[...this.#running.values()].map(({ endsAt }) => endsAt))
        fixture.now = next
        for (const [lease, { endsAt, group, startedAt }] of this.#running) {
          if (endsAt > next) continue
          this.#running.delete(lease)
          this.used[group]! += next - startedAt
          expect(await succeed(lease)).toMatchObject({ accepted: true })
        }
      }
    }

    #start({ lease, task }: Lease): void {
      const group = task.group ?? '-'
      this.#waiting[group]! -= 1
      this.#running.set(lease, { group, startedAt: fixture.now, endsAt: fixture.now + this.#runMs[group]! })
    }

    async #refill(): Promise<void> {
      for (const group in this.#waiting) {
        while (this.#waiting[group]! < this.#backlog(group)) {
          await submit({ group: group === '-' ? null : group, ...this.#more(group, this.#n++) })
          this.#waiting[group]! += 1
        }
      }
    }
  }

  describe('groups that share running time', () => {
    beforeEach(() => limit('t', null, { groupTurns: 'time' }))

    it('get the same time, however long their tasks run', async () => {
      const load = new Load({ slow: 300, fast: 10, '-': 40 }, 1)
      await load.run(6_000)
      for (const group of ['slow', 'fast', '-']) {
        expect(load.used[group]).toBeGreaterThan(2_000 - 300)
        expect(load.used[group]).toBeLessThan(2_000 + 300)
      }
    })

    it('get the same time over several slots, and each its turn', async () => {
      const load = new Load({ slow: 400, fast: 10, third: 20, fourth: 10 }, 4)
      await load.run(10_000)
      const times = ['slow', 'fast', 'third', 'fourth'].map((group) => load.time(group))
      // The tasks in flight decide how much they differ.
      expect(Math.max(...times) - Math.min(...times)).toBeLessThanOrEqual(4 * 400)
    })

    it('have no credit from a time in which they had nothing to run', async () => {
      const busy = new Load({ a: 20 }, 1)
      await submit({ group: 'b' })
      await submit({ group: 'a' })
      for (const { lease } of await claim(2)) await succeed(lease)
      await busy.run(3_000)
      const both = new Load({ a: 20, b: 20 }, 1)
      await both.run(1_000)
      expect(Math.abs(both.used.a! - both.used.b!)).toBeLessThanOrEqual(60)
    })

    it('wait for the others after a slow task, also if they have only one task at a time', async () => {
      const load = new Load({ slow: 500, fast: 10 }, 1, (group) => (group === 'slow' && load.runningOf('slow') ? 0 : 1))
      for (let round = 0; round < 20; round++) {
        await load.run(500)
        while ((await fixture.queue.sweep(100)).more);
      }
      expect(load.used.slow).toBeLessThanOrEqual(load.used.fast! + 1_000)
      expect(load.used.fast).toBeLessThanOrEqual(load.used.slow! + 1_000)
    })

    it('are charged for attempts that lost their lease', async () => {
      await submit({ group: 'lost' })
      await claim()
      fixture.now += 1_000
      while ((await fixture.queue.sweep(100)).more);
      const load = new Load({ lost: 10, kept: 10 }, 1)
      await load.run(500)
      expect(load.used.lost).toBeLessThanOrEqual(20)
    })

    /** A long attempt of a group that has no other task. */
    const runAlone = async (group: string, ms: number, meanwhile = async () => {}) => {
      await submit({ group })
      const { leases } = await fixture.queue.turn({ worker: WORKER, want: 1, leaseMs: 1e9 })
      await meanwhile()
      fixture.now += ms
      await succeed(leases[0]!.lease)
    }

    it('are charged for their first attempt, also if sweeps have forgotten them meanwhile', async () => {
      await runAlone('slow', 5_000, async () => {
        await new Load({ fast: 10 }, 1).run(500)
        while ((await fixture.queue.sweep(100)).more);
      })
      const load = new Load({ slow: 10, fast: 10 }, 1)
      await load.run(2_000)
      expect(load.used.slow).toBeLessThanOrEqual(20)
    })

    it('take turns at once when they share starts again, whatever time they have used', async () => {
      await runAlone('slow', 100_000)
      for (let n = 0; n < 3; n++) await submit({ group: 'fast' })
      const [first] = await claim()
      await succeed(first!.lease)
      await fixture.queue.configureType('t', { groupTurns: 'tasks' })
      for (let n = 0; n < 4; n++) for (const group of ['fast', 'slow']) await submit({ group })
      const groups: (string | null)[] = []
      for (let n = 0; n < 6; n++) groups.push((await claim())[0]!.task.group)
      expect(groups.filter((group) => group === 'slow')).toHaveLength(3)
    })

    it('share time as a group if its tasks use several sets of limits', async () => {
      for (const name of ['x', 'y', 'z']) await fixture.queue.configureLimit(name, { max: 1_000 })
      const uses = (group: string, n: number) => (group === 'many' ? { uses: { [['x', 'y', 'z'][n % 3]!]: 1 } } : {})
      const load = new Load({ many: 20, one: 20 }, 1, () => 6, uses)
      await load.run(4_000)
      expect(Math.abs(load.used.many! - load.used.one!)).toBeLessThanOrEqual(200)
    })

    it('can share starts again, and time again, at run time', async () => {
      const load = new Load({ slow: 100, fast: 10 }, 1)
      await load.run(1_000)
      expect((await fixture.queue.configureType('t', { groupTurns: 'tasks' })).groupTurns).toBe('tasks')
      const before = { ...load.used }
      await load.run(2_200)
      const starts = (group: 'slow' | 'fast', ms: number) => (load.used[group]! - before[group]!) / ms
      expect(Math.abs(starts('slow', 100) - starts('fast', 10))).toBeLessThanOrEqual(2)
      // What a handler declares does not change what an operator has set.
      await limit('t', null, { groupTurns: 'time' })
      expect((await fixture.queue.types({ names: ['t'] }))[0]!.groupTurns).toBe('tasks')
      await fixture.queue.configureType('t', { groupTurns: 'time' })
      const then = { ...load.used }
      await load.run(2_000)
      expect(Math.abs(load.used.slow! - then.slow! - (load.used.fast! - then.fast!))).toBeLessThanOrEqual(300)
    })

    it('each have one waiting task when the type begins to share time', async () => {
      await limit('u', null)
      for (const group of ['a', 'b', 'c']) await submit({ type: 'u', group, payload: group })
      await fixture.queue.configureType('u', { groupTurns: 'time' })
      expect((await claim(9)).map(({ task }) => task.payload)).toEqual(['a', 'b', 'c'])
    })
  })
}
