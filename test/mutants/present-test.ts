import { afterEach, beforeEach, expect } from 'vitest'

/** Tells hits.ts which test runs, also in child processes. What runs before and between suites belongs to all tests. */
const tell = (name: string) => {
  process.env.MUTANT_TEST = name
}
beforeEach(() => tell(expect.getState().currentTestName!))
afterEach(({ task }) => {
  if (task.suite?.tasks.at(-1) === task) tell('')
})
