import type { Rate } from '../../src/queue/queue.ts'
import type { Dice } from './dice.ts'

export interface PlannedType {
  maxConcurrency: number | null
  groupConcurrency: number | null
  rate: Rate | null
  processTimeoutMs: number
  queueTimeoutMs: number
}

/** How big a run is and what may go wrong in it. Shares are of calls, or of handler runs. */
export interface Plan {
  workers: number
  concurrency: number
  claimAhead: number
  clients: number
  batches: number
  batch: number
  leaseMs: number
  types: Record<string, PlannedType>
  sweepers: number
  /** The share of tasks that wait for others of their batch. */
  flows: number
  /** The share of handlers that end at once. */
  quick: number
  faults: {
    refused: number
    answerLost: number
    late: number
    /** A call after which nothing gets through for a while, and what the handlers came to is told much later. */
    cutOff: number
    /** A worker dies before a call, or after it and before the answer. */
    diesAround: number
    /** A worker dies while a handler runs. */
    diesWithin: number
    clockSteps: number
    clockGoesBack: boolean
    limitChanges: boolean
  }
}

/** Most runs are small: what goes wrong, goes wrong between few; and many of them are tried. */
export function drawPlan(dice: Dice): Plan {
  const isBig = dice.chance(0.02)
  const calm = dice.chance(0.1)
  const share = (max: number) => (calm || dice.chance(0.3) ? 0 : dice.next() * max)
  const types = Object.fromEntries(['a', 'b', 'c'].slice(0, dice.between(1, 3)).map((type) => [type, drawType(dice)]))
  return {
    workers: isBig ? dice.between(20, 60) : dice.between(1, 4),
    concurrency: dice.one([1, 2, 3, 10]),
    claimAhead: dice.one([0, 4, 64]),
    clients: dice.between(1, 2),
    batches: isBig ? dice.between(10, 40) : dice.between(1, 3),
    batch: isBig ? dice.between(5, 20) : dice.between(1, 5),
    leaseMs: dice.one([600, 1_000, 3_000]),
    types,
    sweepers: dice.between(1, 2),
    flows: dice.one([0, 0.2, 0.7]),
    // Many slow tasks behind one permit would only take long.
    quick: isBig ? 0.95 : dice.one([0.2, 0.6, 1]),
    faults: {
      refused: share(0.08),
      answerLost: share(0.08),
      late: share(0.2),
      cutOff: share(0.15),
      diesAround: share(0.04),
      diesWithin: share(0.1),
      clockSteps: dice.chance(0.2) ? dice.between(1, 3) : 0,
      clockGoesBack: dice.chance(0.3),
      limitChanges: dice.chance(0.2),
    },
  }
}

function drawType(dice: Dice): PlannedType {
  return {
    maxConcurrency: dice.one([null, 1, 2, 3]),
    groupConcurrency: dice.one([null, null, 1, 2]),
    rate: dice.chance(0.2) ? { max: dice.between(1, 5), perMs: dice.one([50, 300]) } : null,
    processTimeoutMs: dice.one([0, 60, 400, 2_500]),
    queueTimeoutMs: dice.one([0, 0, 500, 5_000]),
  }
}
