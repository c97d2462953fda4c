/** A payload of a benchmark: the number of its task, the time (ns) from which its latency counts, and text. */
export interface Payload {
  n: number
  at?: string
  text?: string
}

/** What a worker does with a task. A rejection is a failed attempt, which is retried at once. */
export type Handle = (payload: Payload) => Promise<unknown>

/**
 * What every queue in the comparison can do, and nothing that only one of them has. One process opens one contender.
 * Results are kept where the queue keeps results.
 */
export interface Contender {
  /** Submits these tasks with one call; resolves when they are accepted. */
  submit(payloads: readonly Payload[]): Promise<void>
  /** Starts a worker, and resolves to its graceful stop, which stores all outcomes. */
  work(concurrency: number, handle: Handle): Promise<() => Promise<unknown>>
  /** The number of tasks that the store holds without a final outcome. */
  unfinished?(): Promise<number>
  /** Makes the store hold `count` tasks that are `waiting`, `delayed` or `finished`. */
  fill?(contender: Contender, count: number, kind: string): Promise<void>
  close(): Promise<void>
}

/** `where` is a database file, the port of a Redis, or the URL of a database; each contender says so. */
export type OpenContender = (where: string) => Promise<Contender>

/** A payload of about 100 bytes, as applications have them. */
export const PAYLOAD = {
  to: 'ann@example.com',
  subject: 'Your order has shipped',
  order: 7_301_993,
  template: 'shipped',
}

export const numbered = (count: number, from = 0): Payload[] =>
  Array.from({ length: count }, (_, index) => ({ ...PAYLOAD, n: from + index }))

/** Works until `count` handlers have ended, and resolves to the stop of the worker. With `failOnce`, each task fails first. */
export async function workUntil(contender: Contender, concurrency: number, count: number, failOnce = false) {
  let left = count
  const all = Promise.withResolvers<void>()
  const failed = new Set<number>()
  const stop = await contender.work(concurrency, async ({ n }) => {
    if (failOnce && !failed.has(n)) {
      failed.add(n)
      throw new Error('once')
    }
    left -= 1
    if (left === 0) all.resolve()
    return { ok: true }
  })
  await all.promise
  return stop
}
