import { ErrorReply } from '@redis/client'
import { XQueueError } from '../../task/errors.ts'
import type { RedisUrl } from './redis-url.ts'

/** What can go wrong between this process and Redis, and how a caller is told. */

/** A call that did not reach Redis: nothing was done. */
export class UnreachedError extends Error {
  constructor(cause: Error) {
    super(messageOf(cause), { cause })
  }
}

/** Redis, or the network on the way, does not answer: what was asked may have been done. */
export class SilentError extends Error {
  constructor(waitMs: number) {
    super(`no answer for ${waitMs / 1_000} s`)
  }
}

/**
 * Answers that say that nothing was done, and that it may go well in a moment. The key that a step names never exists,
 * so that a node answers ASK for as long as its slot moves to another. It is not followed: no step runs where only a
 * part of its keys is, and the partition stands still until all of it has moved.
 */
const COMES_BACK = /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|NOREPLICAS|UNKILLABLE)/
const ELSEWHERE = /^(MOVED|ASK) /

/** What a refusal of Redis means, and the way out. */
const REMEDIES: readonly [RegExp, string][] = [
  [/^OOM/, 'Redis has no memory left: raise maxmemory, or let the queue drain'],
  [/^MISCONF/, 'Redis cannot write to its disk: make room, or see its log'],
  [/^READONLY/, 'this Redis is a read-only replica: name its master in the URL, or use redis+sentinel://'],
  [/^(NOAUTH|WRONGPASS)|without any password configured/, 'Redis refuses the user or the password: mend the URL'],
  // The second is what a function is told.
  [
    // As Redis 7 and Redis 8 put it for what a function may not do.
    /^NOPERM|The user executing the script can't|ACL failure in script/,
    'the Redis user may not do this: give it what docs/redis.md lists',
  ],
  [/^(MOVED|ASK|CROSSSLOT)/, 'this Redis is part of a cluster: write redis+cluster:// in the URL'],
  [/cluster support disabled/, 'this Redis is no cluster: write redis:// in the URL'],
  [/max number of clients/, 'Redis takes no more connections: raise maxclients'],
  [/DB index is out of range/, 'Redis has no database of that number: mend the URL, or raise databases'],
]

/** Whether a call that failed so may be made again: it was not carried out, or carrying it out twice does no harm. */
export function mayTryAgain(error: unknown, isHarmless: boolean, { kind }: RedisUrl): boolean {
  if (error instanceof ErrorReply) {
    return COMES_BACK.test(error.message) || (kind === 'cluster' && ELSEWHERE.test(error.message))
  }
  return error instanceof UnreachedError || (isHarmless && !(error instanceof XQueueError))
}

/** The error for the caller. It names hosts and ports, never a password. */
export function failureOf(error: unknown, place: RedisUrl): XQueueError {
  if (error instanceof XQueueError) return error
  const because = messageOf(error)
  const options = { cause: error }
  const where = whereOf(place)
  if (error instanceof ErrorReply) {
    const remedy = REMEDIES.find(([pattern]) => pattern.test(because))?.[1]
    if (remedy === undefined && !COMES_BACK.test(because)) {
      return new XQueueError('internal', `Redis at ${where} answered: ${because}`, {}, options)
    }
    const detail = `Redis at ${where} refuses: ${remedy ?? 'it is not ready yet'} (${because})`
    return new XQueueError('engine_unavailable', detail, { retry_after: 1 }, options)
  }
  const what = error instanceof UnreachedError ? 'cannot be reached' : 'was lost before it answered'
  return new XQueueError('engine_unavailable', `Redis at ${where} ${what} (${because})`, { retry_after: 1 }, options)
}

/** Node tells of several addresses that failed in an error without a message. */
function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(messageOf).join('; ')
  return error instanceof Error ? error.message || error.name : String(error)
}

function whereOf({ nodes }: RedisUrl): string {
  return nodes.map(({ host, port }) => `${host}:${port}`).join(', ')
}
