import { expect, it } from 'vitest'
import { complaintsOf } from './judgement.ts'
import { Soak } from './soak.ts'

it('stays bounded under load with changing workers, and recovers from double its capacity', async () => {
  const plan = { measureMs: 2_000, steadyMs: 6_000, overloadMs: 3_000, turnoverMs: 1_000, samples: 4 }
  const soaked = await Soak.run({ engine: 'sqlite', ...plan })
  const { samples, ...figures } = soaked
  console.info(`soak: ${JSON.stringify(figures)}`)
  expect(complaintsOf(soaked)).toEqual([])
  expect(soaked.workersLost).toBeGreaterThan(1)
  expect(soaked.ended).toBe(soaked.accepted)
  const overload = samples.find(({ phase }) => phase === 'overload')!
  expect(overload.statuses['201']).toBeGreaterThan(0)
  expect(samples.at(-1)!.waiting).toBe(0)
}, 120_000)
