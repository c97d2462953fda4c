/**
 * What every queue in the comparison can do, and nothing that only one of them has. One process opens one contender;
 * the payload is ~100 bytes of JSON, the handler an async function that does nothing, results are kept.
 */
export interface Contender {
  /** Submits `count` tasks with one call; resolves when they are accepted. */
  submitBatch(count: number): Promise<void>
  submitOne(): Promise<void>
  /**
   * Runs a worker until `count` tasks have ended, and answers how to stop it; with `failOnce` the first attempt of each
   * fails.
   */
  work(concurrency: number, count: number, failOnce?: boolean): Promise<() => Promise<unknown>>
  /** Makes the store hold `count` tasks that are `waiting`, `delayed` or `finished`. */
  fill?(contender: Contender, count: number, kind: string): Promise<void>
  close(): Promise<void>
}

/** `where` is a database file, or the port of a Redis. */
export type OpenContender = (where: string) => Promise<Contender>

export const PAYLOAD = {
  to: 'ann@example.com',
  subject: 'Your order has shipped',
  order: 7_301_993,
  template: 'shipped',
}
