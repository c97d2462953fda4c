import type { GroupTurns, LimitSettings, Rate } from '../../src/queue/queue.ts'
import type { SeededRandom } from './random.ts'

export interface PlannedType {
  maxConcurrency: number | null
  groupConcurrency: number | null
  groupTurns: GroupTurns
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
  /** Named limits; `k/*` is of each key. */
  limits: Record<string, LimitSettings>
  sweepers: number
  /** The share of tasks that wait for others of their batch. */
  flows: number
  /** The share of handlers that end at once. */
  quick: number
  faults: {
    refused: number
    answerLost: number
    late: number
    /** A call after which nothing gets through for a while, and the outcomes of handlers arrive much later. */
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
export function drawPlan(random: SeededRandom): Plan {
  const isBig = random.chance(0.02)
  const calm = random.chance(0.1)
  const share = (max: number) => (calm || random.chance(0.3) ? 0 : random.next() * max)
  const types = Object.fromEntries(
    ['a', 'b', 'c'].slice(0, random.between(1, 3)).map((type) => [type, drawType(random)]),
  )
  return {
    workers: isBig ? random.between(20, 60) : random.between(1, 4),
    concurrency: random.one([1, 2, 3, 10]),
    claimAhead: random.one([0, 4, 64]),
    clients: random.between(1, 2),
    batches: isBig ? random.between(10, 40) : random.between(1, 3),
    batch: isBig ? random.between(5, 20) : random.between(1, 5),
    leaseMs: random.one([600, 1_000, 3_000]),
    types,
    sweepers: random.between(1, 2),
    flows: random.one([0, 0.2, 0.7]),
    // Many slow tasks behind one permit would only take long.
    quick: isBig ? 0.95 : random.one([0.2, 0.6, 1]),
    faults: {
      refused: share(0.08),
      answerLost: share(0.08),
      late: share(0.2),
      cutOff: share(0.15),
      diesAround: share(0.04),
      diesWithin: share(0.1),
      clockSteps: random.chance(0.2) ? random.between(1, 3) : 0,
      clockGoesBack: random.chance(0.3),
      limitChanges: random.chance(0.2),
    },
    limits: drawLimits(random),
  }
}

function drawLimits(random: SeededRandom): Plan['limits'] {
  if (random.chance(0.4)) return {}
  const names = ['x', 'y', 'k/*'].slice(0, random.between(1, 3))
  return Object.fromEntries(
    names.map((name) => [
      name,
      {
        max: random.one([null, 1, 2, 3, 5]),
        rate: random.chance(0.3) ? { max: random.between(3, 8), perMs: random.one([50, 300]) } : null,
      },
    ]),
  )
}

function drawType(random: SeededRandom): PlannedType {
  return {
    maxConcurrency: random.one([null, 1, 2, 3]),
    groupConcurrency: random.one([null, null, 1, 2]),
    groupTurns: random.one(['tasks', 'time']),
    rate: random.chance(0.2) ? { max: random.between(1, 5), perMs: random.one([50, 300]) } : null,
    processTimeoutMs: random.one([0, 60, 400, 2_500]),
    queueTimeoutMs: random.one([0, 0, 500, 5_000]),
  }
}
