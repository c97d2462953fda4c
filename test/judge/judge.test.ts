import { expect, it } from 'vitest'
import { judge } from './judge.ts'
import { STORES } from './judged-stores.ts'

const SECONDS = 4
const SEED = 1
const END_MS_MAX = 300_000

it.each(STORES)(
  'finds no broken promise on %s',
  async (store) => {
    const { seen, violations } = await judge(store, SEED, SECONDS)
    expect(violations).toEqual([])
    expect(seen.runs.length).toBeGreaterThan(0)
    expect(seen.faults.length).toBeGreaterThan(0)
    expect(seen.tasks.length).toBeGreaterThanOrEqual(seen.submissions.filter(({ ids }) => ids.length > 0).length)
  },
  END_MS_MAX,
)
