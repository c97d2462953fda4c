import { openEngine } from '../../src/engine/open.ts'
import type { OpenContender } from './contender.ts'
import { contend } from './xqueue.ts'

/** The Redis engine, on the same Redis as its peers. */
export const open: OpenContender = async (port) =>
  contend(await openEngine(`redis://127.0.0.1:${port}`, { retention: { ageMs: 86_400_000, countMax: 10_000_000 } }))
