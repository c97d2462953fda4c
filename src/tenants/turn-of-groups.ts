import { setTimeout as sleep } from 'node:timers/promises'
import type { Queue, Turn, TurnAnswer } from '../queue/queue.ts'
import { emptyAnswer } from '../store/waiters.ts'

/** Polling interval of a turn that waits for tasks of some groups. */
const LOOK_AGAIN_MS = 200

/** A turn of some groups, which does not wait by itself: a wake-up could be for another group. */
export async function turnOfGroups(queue: Queue, turn: Turn): Promise<TurnAnswer> {
  const until = performance.now() + (turn.waitMs ?? 0)
  for (;;) {
    const answer = await queue.turn(turn)
    const hasReported = turn.outcomes!.length + turn.renewals!.length + turn.logs!.length > 0 || turn.leaving === true
    const isEmpty = answer.leases.length + answer.cancelRequested.length === 0
    const leftMs = until - performance.now()
    if (!isEmpty || hasReported || leftMs <= 0) return answer
    await sleep(Math.min(leftMs, LOOK_AGAIN_MS), undefined, { signal: turn.signal! }).catch(() => undefined)
    if (turn.signal?.aborted) return emptyAnswer()
  }
}
