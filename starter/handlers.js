// @ts-check
import { defineHandlers } from 'xqueue'

/** What this queue can do: a task type each. Limits hold over all processes that share the engine. */
export default defineHandlers({
  greet: {
    concurrency: 5,
    processTimeout: '30s',
    retry: { base: '2s', cap: '1m' },
    run: async (/** @type {import('xqueue').TaskWith<{ name: string }>} */ task, { signal, progress, log }) => {
      log.info('greeting')
      progress(50)
      signal.throwIfAborted() // canceled, or out of time
      return { text: `Hello, ${task.payload.name}!` }
    },
  },
})
