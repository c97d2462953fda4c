import type { Task } from '../../src/task/task.ts'

/** What the fuzzed server runs: a task that ends at once, and one that fails. `remote` is for workers over HTTP. */
export default {
  echo: { run: ({ payload }: Task) => payload },
  broken: {
    maxRetry: 0,
    run: () => {
      throw new Error('broken on purpose')
    },
  },
}
