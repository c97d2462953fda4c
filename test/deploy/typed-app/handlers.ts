import { type Duration, defineHandlers, RetryAfter, type TaskWith } from 'xqueue'

interface Order {
  id: string
  cents: number
}

const every: Duration = '90s'

/** An application's handlers. package.test.ts compiles this folder against the packed package. */
export const handlers = defineHandlers({
  charge: {
    concurrency: 4,
    rate: { max: 100, per: every },
    run: async ({ payload, id }: TaskWith<Order>, { log, progress, signal }) => {
      log.info({ id }, 'charging')
      progress(50)
      if (signal.aborted) throw new RetryAfter('30s')
      return { receipt: `${payload.id}-${payload.cents}` }
    },
  },
  greet: { run: ({ payload }: TaskWith<{ name: string }>) => `Hello, ${payload.name}!` },
})
