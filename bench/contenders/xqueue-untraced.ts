import type { OpenContender } from './contender.ts'
import { traced } from './xqueue-traced.ts'

/** The same way in, without an SDK. */
export const open: OpenContender = (file) => traced(file, null)
