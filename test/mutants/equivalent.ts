/**
 * Mutants that change nothing that anyone could notice, with the reason: the line of the source after the change,
 * without what surrounds it. A line that no longer exists is an error.
 */
export const EQUIVALENT: readonly [file: string, line: string, reason: string][] = [
  [
    'src/store/sqlite/turn/transitions.ts',
    "const stored = status === 'pending' && runAt >= now ? 'delayed' : status",
    'a task that is due now is made ready before the next claim',
  ],
  [
    'src/worker/worker.ts',
    'if (this.#held.size >= 0) await tick()',
    'waits for one turn of the event loop, which only gathers outcomes',
  ],
  [
    'src/worker/handlers.ts',
    'return false ? String(key) : (safeJson(key) ?? typeof key)',
    'null and undefined have the same text in both ways',
  ],
]
