import { defineConfig } from 'vitest/config'

/** `npm run test:deploy`: what needs tools that are large or slow to get; they are kept between runs. */
export default defineConfig({
  test: {
    include: ['test/deploy/*.deploy.ts'],
    root: `${import.meta.dirname}/../..`,
    pool: 'forks',
    setupFiles: ['test/fixtures/setup.ts'],
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 1_200_000,
    passWithNoTests: false,
    allowOnly: !process.env.CI,
  },
})
