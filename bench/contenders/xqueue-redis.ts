import { openQueue } from '../../src/queue/open.ts'
import type { OpenContender } from './contender.ts'
import { contend, KINDS } from './xqueue.ts'

/**
 * The Redis engine, on the same Redis as its peers: `<port>`, and after it `no-limit` for a type without one, `not-ahead`
 * for a worker that claims no more than it runs, one of the kinds of tasks in xqueue.ts, or `events` while somebody
 * reads all events.
 */
export const open: OpenContender = async (where) => {
  const [port, variant] = where.split(' ')
  const retention = { ageMs: 86_400_000, countMax: 10_000_000 }
  const engine = await openQueue(`redis://127.0.0.1:${port}`, { retention })
  const contender = await contend(engine, {
    limit: variant === 'no-limit' ? null : 1_000,
    claimAhead: variant === 'not-ahead' ? 0 : undefined,
    ...KINDS[variant ?? ''],
  })
  if (variant !== 'events') return contender
  const stop = new AbortController()
  const reading = (async () => {
    let { last } = await engine.events({ after: null, max: 1 })
    while (!stop.signal.aborted) {
      last = (await engine.events({ after: last, max: 1_000, waitMs: 1_000, signal: stop.signal })).last
    }
  })()
  const close = async () => {
    stop.abort()
    await reading
    await contender.close()
  }
  return { ...contender, close }
}
