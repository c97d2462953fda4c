import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** They compile whole clients, with all cores: beside others, both would take too long. */
const GENERATORS = ['test/generators/**/*.test.ts']
/** They measure rates, or use all cores. */
const ALONE = ['test/simulation/**/*.test.ts', 'test/soak/**/*.test.ts']
/** The longest files, which start first: the last one to start would keep the other cores waiting. */
const LONG = [
  'test/queue-contract/kafka.test.ts',
  'test/clients/workers.test.ts',
  'test/judge/judge.test.ts',
  'test/deploy/package.test.ts',
  'test/server/bounded-answers.test.ts',
  'test/notify/mosquitto.test.ts',
  'test/faults/kafka-state.test.ts',
  'test/faults/kafka-processes.test.ts',
  'test/faults/kafka-brokers.test.ts',
  'test/queue-contract/redis-cluster.test.ts',
  'test/access/tenants.test.ts',
  'test/docs/how-to.test.ts',
  'test/store/kafka-cluster.test.ts',
  'test/queue-contract/sqlite.test.ts',
  'test/bench/peers.test.ts',
  'test/fuzz/openapi.test.ts',
  'test/e2e/serve.test.ts',
  'test/faults/redis-outage.test.ts',
  'test/queue-contract/redis.test.ts',
  'test/clients/connections.test.ts',
  'test/notify/embedded.test.ts',
  'test/e2e/dashboard-tasks.test.ts',
  'test/notify/soak.test.ts',
  'test/faults/redis-cluster.test.ts',
  'test/queue/stalls.test.ts',
  'test/faults/redis-sentinel.test.ts',
  'test/store/encryption.test.ts',
  'test/e2e/dashboard-pages.test.ts',
]
/** Many files wait for processes, brokers and time-outs, so there is one more at a time than there are cores. */
const WORKERS = Math.min(availableParallelism() + 1, 6)

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ project, moduleId }: TestSpecification) => {
      const index = LONG.findIndex((file) => moduleId.endsWith(file))
      return project.config.sequence.groupOrder * 1_000 + (index === -1 ? LONG.length : index)
    }
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b))
  }
}

export default defineConfig({
  test: {
    pool: 'forks',
    globalSetup: ['test/fixtures/installed.ts'],
    setupFiles: ['test/fixtures/setup.ts'],
    testTimeout: 60_000,
    expect: { poll: { timeout: 20_000 } },
    hookTimeout: 60_000,
    env: {
      // Go programs need no C compiler: Debian's Go comes without one.
      CGO_ENABLED: '0',
      // Tests start hundreds of Node processes, which would compile the same files each time: 0.3 s instead of 0.1 s.
      NODE_COMPILE_CACHE: join(import.meta.dirname, '.cache/node'),
    },
    passWithNoTests: false,
    allowOnly: !process.env.CI,
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        test: {
          name: 'beside others',
          include: ['test/**/*.test.ts'],
          exclude: [...ALONE, ...GENERATORS],
          maxWorkers: WORKERS,
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
