import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { beforeEach, describe, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { removeAtExit } from '../fixtures/processes.ts'

const STEP = 1_000
const SUCCESSORS = 4_500
const worker = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 1, startedAt: 0 }

describe('a task with many successors, on SQLite', () => {
  let url: string
  let queue: Queue
  beforeEach(async () => {
    const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-cascades-')))
    url = `sqlite:${join(folder, 'x.db')}`
    queue = await openQueue(url)
    await queue.configureType('t', { declared: true })
    return () => queue.close()
  })

  const submit = async (specs: Partial<TaskSpec>[]) =>
    (await queue.submit(specs.map((spec) => completeSpec({ type: 't', ...spec })))).map(({ task }) => task.id)
  const dependent = async (from = queue) => (await from.types({ names: ['t'] }))[0]!.dependent
  /** Successors of one task, and one task behind each of the first hundred. */
  const tree = async () => {
    const [root] = await submit([{}])
    const children = await submit(Array.from({ length: SUCCESSORS }, () => ({ after: [root!] })))
    await submit(children.slice(0, 100).map((id) => ({ after: [id] })))
    return root!
  }
  /** How many still wait, as calls between the steps see it, until so many are left. */
  const watch = async (end: number) => {
    const seen: number[] = []
    while (seen.at(-1) !== end) {
      seen.push(await dependent())
      await new Promise((resolve) => setImmediate(resolve))
    }
    return new Set(seen)
  }

  it.each(['cancel', 'success'] as const)(
    'informs a bounded number of them per step: %s',
    async (how) => {
      const root = await tree()
      const all = SUCCESSORS + 100
      const end = how === 'cancel' ? 0 : 100
      const { leases } = await queue.turn({ worker, want: how === 'cancel' ? 0 : 1 })
      const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: 1 } as const }))
      const done = how === 'cancel' ? queue.cancel({ ids: [root] }) : queue.turn({ worker, want: 0, outcomes })
      const seen = await watch(end)
      await done
      // Each step tells exactly as many as it may, and between steps other calls are answered.
      const steps = new Set([all, all - STEP, all - 2 * STEP, all - 3 * STEP, all - 4 * STEP, end])
      expect([...seen].filter((left) => !steps.has(left))).toEqual([])
      expect([...seen].filter((left) => left < all && left > end)).not.toEqual([])
      const { counts } = await queue.stats()
      expect(counts).toMatchObject(how === 'cancel' ? { pending: 0, canceled: all + 1 } : { pending: all, success: 1 })
    },
    60_000,
  )

  it('keep one copy of its outcome if that is long, and none if it is short', async () => {
    const copies = new DatabaseSync(url.slice('sqlite:'.length), { readOnly: true })
    const copied: unknown[] = []
    for (const result of ['short', 'x'.repeat(10_000)]) {
      const [root] = await submit([{}])
      await submit(Array.from({ length: 9 }, () => ({ after: [root!] })))
      const { leases } = await queue.turn({ worker, want: 1 })
      const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result } as const }))
      await queue.turn({ worker, want: 0, outcomes })
      copied.push(copies.prepare('SELECT count(*) AS n FROM copies').get()!.n)
      await queue.cancel({ filter: { type: 't' } })
    }
    copies.close()
    expect(copied).toEqual([0, 1])
  })

  it('continues with the next sweep when the process ended in between', async () => {
    const root = await tree()
    // The close does the transaction that is under way, and none behind it; the task is no longer read for the answer.
    const canceled = queue.cancel({ ids: [root] }).catch((error: unknown) => error)
    await queue.close()
    expect(await canceled).toMatchObject({ code: 'shutting_down' })
    queue = await openQueue(url)
    const left = await dependent()
    expect(left).toBeGreaterThan(0)
    expect((await queue.sweep(STEP)).changed).toBe(STEP)
    await watch(0)
  }, 60_000)

  it('leaves successors waiting whose predecessor was retried before they were informed', async () => {
    const root = await tree()
    const [first, again] = await Promise.all([queue.cancel({ ids: [root] }), queue.retry({ ids: [root] })])
    expect([first.results[0]!.outcome, again.results[0]!.outcome]).toEqual(['changed', 'changed'])
    // The hundred behind those that were canceled with it end as well.
    await watch(SUCCESSORS - STEP)
    await queue.sweep(STEP)
    expect(await dependent()).toBe(SUCCESSORS - STEP)
    const { leases } = await queue.turn({ worker, want: 1 })
    await queue.turn({
      worker,
      want: 0,
      outcomes: [{ lease: leases[0]!.lease, outcome: { kind: 'success', result: 1 } }],
    })
    await watch(0)
  }, 60_000)
})
