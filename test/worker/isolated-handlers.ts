import { z } from 'zod'
import { DoNotRetry, defineHandlers } from '../../src/index.ts'

/** Loaded by threads of their own, see isolate.test.ts. */
export default defineHandlers({
  report: {
    isolate: true,
    payload: z.object({ n: z.number() }),
    run: async (task, { progress, attempt, log }) => {
      log.info({ n: task.payload.n }, 'counting')
      progress({ n: task.payload.n })
      return { id: task.id, attempt, doubled: task.payload.n * 2 }
    },
  },
  block: {
    isolate: true,
    run: () => {
      for (;;);
    },
  },
  heed: {
    isolate: true,
    run: (_task, { signal }) =>
      new Promise<never>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  },
  join: {
    isolate: true,
    run: (_task, { predecessors }) => predecessors.map(({ type, status, result }) => ({ type, status, result })),
  },
  leave: { isolate: true, run: () => process.exit(7) },
  stray: {
    isolate: true,
    run: () =>
      new Promise<never>(() => {
        setTimeout(() => {
          throw new Error('stray')
        })
      }),
  },
  refuse: {
    isolate: true,
    run: () => {
      throw new DoNotRetry('never')
    },
  },
  uncloneable: { isolate: true, run: () => () => 1 },
})
