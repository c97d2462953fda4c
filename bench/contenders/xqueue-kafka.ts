import { openQueue } from '../../src/queue/open.ts'
import type { OpenContender } from './contender.ts'
import { contend, KINDS } from './xqueue.ts'

/** The Kafka engine: `<its URL>`, and after it one of the kinds of tasks in xqueue.ts. */
export const open: OpenContender = async (where) => {
  const [url, variant] = where.split(' ')
  const retention = { ageMs: 86_400_000, countMax: 10_000_000 }
  return contend(await openQueue(url!, { retention }), KINDS[variant ?? ''])
}
