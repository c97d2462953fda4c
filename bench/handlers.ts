import { defineHandlers } from '../src/worker/handler.ts'

/** Answers when it was started, on the clock that all processes of a machine share. */
export default defineHandlers({
  bench: { concurrency: 1_000, run: async () => ({ started_ns: String(process.hrtime.bigint()) }) },
})
