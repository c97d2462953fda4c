import { join } from 'node:path'
import { createVitest, type TestCase } from 'vitest/node'
import type { Answer, Request } from './runner.ts'

/**
 * Runs tests as the parent process asks for, in the present folder, and keeps what it has compiled. Each test file
 * still has a process of its own.
 */
const [setupFiles = ''] = process.argv.slice(2)
const vitest = await createVitest({
  config: false,
  watch: false,
  pool: 'forks',
  maxWorkers: 1,
  bail: 1,
  reporters: [{}],
  include: ['test/**/*.test.ts'],
  setupFiles: setupFiles.split(','),
  testTimeout: 60_000,
  hookTimeout: 60_000,
})
const project = vitest.getRootProject()
process.on('message', async ({ changed, files, names }: Request) => {
  for (const file of changed) vitest.invalidateFile(join(process.cwd(), file))
  if (names) vitest.setGlobalTestNamePattern(patternOf(names))
  else vitest.resetGlobalTestNamePattern()
  const specifications = files.map((file) => project.createSpecification(join(process.cwd(), file)))
  const { testModules, unhandledErrors } = await vitest.runTestSpecifications(specifications)
  // Vitest also lists what ran earlier.
  const modules = testModules.filter(({ relativeModuleId }) => files.includes(relativeModuleId))
  const tests = modules.flatMap((module) => {
    const file = module.relativeModuleId
    return [...module.children.allTests()].map((test) => ({ file, ...outcomeOf(test) }))
  })
  const isBroken = unhandledErrors.length > 0 || modules.some((module) => module.state() === 'failed')
  const answer: Answer = { tests: tests.filter(({ state }) => state !== 'skipped'), isBroken }
  process.send!(answer)
})
process.send!('ready')

function outcomeOf(test: TestCase) {
  return { name: test.fullName, state: test.result().state, ms: test.diagnostic()?.duration ?? 0 }
}

/** Vitest separates the parts of a name by ` > ` in its answers and by a space where it compares them. */
function patternOf(names: readonly string[]): RegExp {
  const escaped = names.map((name) => name.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&').replaceAll(' > ', '(?: >)? '))
  return new RegExp(`^(?:${escaped.join('|')})$`)
}
