import { openEngine } from '../../src/engine/open.ts'
import type { OpenContender } from './contender.ts'
import { contend } from './xqueue.ts'

/** The Kafka engine: `<its URL>`. */
export const open: OpenContender = async (url) => {
  const retention = { ageMs: 86_400_000, countMax: 10_000_000 }
  return contend(await openEngine(url, { retention }))
}
