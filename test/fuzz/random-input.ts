import { randomInt } from 'node:crypto'
import fc from 'fast-check'
import { XQueueError } from '../../src/task/errors.ts'

/** FUZZ_SEED=N replays what was drawn. */
export const SEED = Number(process.env.FUZZ_SEED ?? randomInt(2 ** 31))
export const RUNS = 10_000

/** Almost valid text: pieces of valid text, of random text, and of text that has broken parsers before. */
export function nearly(...pieces: string[]): fc.Arbitrary<string> {
  const nasty = ['', ' ', '\0', '\n', '\r\n', '\u2028', '\ud800', 'é', '😀', '__proto__', 'constructor', '%00', '9e999']
  const piece = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...pieces) },
    { weight: 1, arbitrary: fc.constantFrom(...nasty) },
    { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 8 }) },
    { weight: 1, arbitrary: fc.integer().map(String) },
    { weight: 1, arbitrary: fc.double().map(String) },
  )
  const some = fc.array(piece, { maxLength: 8 }).map((parts) => parts.join(''))
  const many = fc.tuple(some, fc.integer({ min: 2, max: 2_000 })).map(([text, times]) => text.repeat(times))
  return fc.oneof({ weight: 9, arbitrary: some }, { weight: 1, arbitrary: many.map((text) => text.slice(0, 20_000)) })
}

/** The result of a call, or its error for the caller; every other error is a fault. */
export function outcomeOf<T>(call: () => T): { value: T } | { refused: XQueueError } {
  try {
    return { value: call() }
  } catch (error) {
    if (error instanceof XQueueError && error.message.length > 10) return { refused: error }
    throw error
  }
}

export async function settledOf<T>(call: () => Promise<T>): Promise<{ value: T } | { refused: XQueueError }> {
  try {
    return { value: await call() }
  } catch (error) {
    return outcomeOf(() => {
      throw error
    })
  }
}
