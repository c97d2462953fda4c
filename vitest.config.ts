import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    // Real servers on shared machines: what fails is tried once more, and vitest tells that it was.
    retry: 1,
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    globalSetup: ['test/services/installed.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    passWithNoTests: false,
    allowOnly: !process.env.CI,
  },
})
