import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { MUTATIONS } from './mutations.ts'

const root = join(import.meta.dirname, '../..')

it('each mutation of `npm run test:mutations` finds the place that it breaks', () => {
  const lost = MUTATIONS.filter(({ file, from }) => readFileSync(join(root, file), 'utf8').split(from).length !== 2)
  expect(lost.map(({ engine, rule, from }) => `${engine}, ${rule}: not once there: ${from}`)).toEqual([])
})

it('there are mutations of both engines', () => {
  for (const name of ['SQLite', 'Redis']) {
    expect(MUTATIONS.filter(({ engine }) => engine === name).length).toBeGreaterThan(25)
  }
})
