import { ErrorReply } from '@redis/client'
import { XQueueError } from '../../../task/errors.ts'
import type { RedisUrl } from './redis-url.ts'

/** The failures between this process and Redis, and the errors that callers receive for them. */

/** A call that did not reach Redis: nothing was changed. */
export class UnreachedError extends Error {
  constructor(cause: Error) {
    super(messageOf(cause), { cause })
  }
}

/** Redis, or the network on the way, does not answer: the call may have been carried out. */
export class SilentError extends Error {
  constructor(waitMs: number) {
    super(`no answer for ${waitMs / 1_000} s`)
  }
}

/**
 * Answers that mean that nothing was changed and that a later try may succeed. The key that a step names never exists,
 * so a node answers ASK for as long as its slot moves to another. ASK is not followed: no step runs where only some of
 * its keys are, and the partition is unavailable until the whole slot has moved.
 */
const COMES_BACK = /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|NOREPLICAS|UNKILLABLE)/
const ELSEWHERE = /^(MOVED|ASK) /

/** The meaning of Redis' refusals, and the remedy. */
const REMEDIES: readonly [RegExp, string][] = [
  [/^OOM/, 'Redis has no memory left: raise maxmemory, or let the queue drain'],
  [/^MISCONF/, 'Redis cannot write to its disk: free disk space, or check its log'],
  [/^READONLY/, 'this Redis is a read-only replica: name its master in the URL, or use redis+sentinel://'],
  [/^(NOAUTH|WRONGPASS)|without any password configured/, 'Redis refuses the user or the password: correct the URL'],
  // The second text is the answer to a function.
  [
    // The texts of Redis 7 and Redis 8 for a command that a function may not run.
    /^NOPERM|The user executing the script can't|ACL failure in script/,
    'the Redis user lacks permissions: grant those that docs/redis.md lists',
  ],
  [/^(MOVED|ASK|CROSSSLOT)/, 'this Redis is part of a cluster: write redis+cluster:// in the URL'],
  [/cluster support disabled/, 'this Redis is not a cluster: write redis:// in the URL'],
  [/max number of clients/, 'Redis accepts no more connections: raise maxclients'],
  [/DB index is out of range/, 'Redis has no database with this number: correct the URL, or raise databases'],
]

/** Whether a failed call may be repeated: it was not carried out, or repeating it does no harm. */
export function mayTryAgain(error: unknown, isHarmless: boolean, { kind }: RedisUrl): boolean {
  if (error instanceof ErrorReply) {
    return COMES_BACK.test(error.message) || (kind === 'cluster' && ELSEWHERE.test(error.message))
  }
  return error instanceof UnreachedError || (isHarmless && !(error instanceof XQueueError))
}

/** The error for the caller. It names hosts and ports, never a password. */
export function failureOf(error: unknown, url: RedisUrl): XQueueError {
  if (error instanceof XQueueError) return error
  const because = messageOf(error)
  const options = { cause: error }
  const where = whereOf(url)
  if (error instanceof ErrorReply) {
    const remedy = REMEDIES.find(([pattern]) => pattern.test(because))?.[1]
    if (remedy === undefined && !COMES_BACK.test(because)) {
      return new XQueueError('internal', `Redis at ${where} answered: ${because}`, {}, options)
    }
    const detail = `Redis at ${where} refuses: ${remedy ?? 'it is not ready yet'} (${because})`
    return new XQueueError('engine_unavailable', detail, { retry_after: 1 }, options)
  }
  const what = error instanceof UnreachedError ? 'cannot be reached' : 'did not answer'
  return new XQueueError('engine_unavailable', `Redis at ${where} ${what} (${because})`, { retry_after: 1 }, options)
}

/** Node reports several addresses that failed in an error without a message. */
function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(messageOf).join('; ')
  return error instanceof Error ? error.message || error.name : String(error)
}

function whereOf({ nodes }: RedisUrl): string {
  return nodes.map(({ host, port }) => `${host}:${port}`).join(', ')
}
