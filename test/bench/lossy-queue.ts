import type { OpenContender, Payload } from '../../bench/contenders/contender.ts'

/** A queue that loses task 3, and hands out task 5 twice: the benchmark must notice. */
export const open: OpenContender = async () => {
  const tasks: Payload[] = []
  return {
    submit: async (payloads) => {
      tasks.push(...payloads)
    },
    work: async (_concurrency, handle) => {
      for (const task of tasks.filter(({ n }) => n !== 3)) await handle(task)
      await handle(tasks[5]!)
      return async () => undefined
    },
    unfinished: async () => 1,
    close: async () => undefined,
  }
}
