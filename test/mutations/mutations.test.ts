import { join } from 'node:path'
import { expect, it } from 'vitest'
import { fileOf, MUTATIONS } from './mutations.ts'

it('each mutation of `npm run test:mutations` finds the place that it breaks', () => {
  const tree = join(import.meta.dirname, '../..')
  const lost = MUTATIONS.flatMap((mutation) => {
    try {
      fileOf(mutation, tree)
      return []
    } catch (error) {
      return [(error as Error).message]
    }
  })
  expect(lost).toEqual([])
})

it('there are mutations of both engines', () => {
  for (const name of ['SQLite', 'Redis']) {
    expect(MUTATIONS.filter(({ engine }) => engine === name).length).toBeGreaterThan(25)
  }
})
