import { defineConfig } from 'vitest/config'

/** They compile whole clients, with all cores: beside others, both would take too long. */
const GENERATORS = ['test/generators/**/*.test.ts']
/** They measure, or break something in the midst of a load: beside others they would mean less. */
const ALONE = ['test/faults/**/*.test.ts', 'test/simulation/**/*.test.ts', 'test/**/soak.test.ts']

export default defineConfig({
  test: {
    pool: 'forks',
    globalSetup: ['test/fixtures/installed.ts'],
    setupFiles: ['test/fixtures/setup.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Go programs need no C compiler: Debian's Go comes without one.
    env: { CGO_ENABLED: '0' },
    passWithNoTests: false,
    allowOnly: !process.env.CI,
    projects: [
      {
        extends: true,
        test: {
          name: 'beside others',
          include: ['test/**/*.test.ts'],
          exclude: [...ALONE, ...GENERATORS],
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      { extends: true, test: { name: 'alone', include: ALONE, maxWorkers: 1, sequence: { groupOrder: 1 } } },
      {
        extends: true,
        test: { name: 'generators', include: GENERATORS, maxWorkers: 1, sequence: { groupOrder: 2 } },
      },
    ],
  },
})
