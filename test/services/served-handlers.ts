import type { Json } from '../../src/task/json.ts'
import type { Task } from '../../src/task/task.ts'

/** What that server runs. `remote`, which it declares, is for workers over HTTP. */
export default {
  echo: { run: ({ payload }: Task) => payload },
  /** Tells under which lease it ran, for the checker of histories. */
  leased: { run: ({ id, deliveries }: Task) => ({ lease: `${id}.${deliveries}` }) },
  broken: {
    maxRetry: 0,
    run: () => {
      throw new Error('broken on purpose')
    },
  },
  /** Nested as deep as its payload says. */
  deep: {
    maxRetry: 0,
    run: ({ payload }: Task) => {
      let value: Json = null
      for (let level = 0; level < Number(payload); level++) value = [value]
      return value
    },
  },
  /** What every object of the server's process has. */
  prototype: { run: () => Object.getOwnPropertyNames(Object.prototype).sort() },
}
