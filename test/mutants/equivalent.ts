/**
 * Mutants that change nothing that anyone could notice, with the reason: the line of the source after the change,
 * without what surrounds it. A line that no longer exists is an error.
 */
export const EQUIVALENT: readonly [file: string, line: string, reason: string][] = []
