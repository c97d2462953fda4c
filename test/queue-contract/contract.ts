import fc from 'fast-check'
import { afterEach, beforeEach, describe, it } from 'vitest'
import { admissionContract } from './admission.ts'
import { attemptsContract } from './attempts.ts'
import { batchContract } from './batch.ts'
import { cancelContract } from './cancel.ts'
import { cascadesContract } from './cascades.ts'
import { closeContract } from './close.ts'
import { configureLimitContract } from './configure-limit.ts'
import { configureTypeContract } from './configure-type.ts'
import { declareHandlersContract } from './declare-handlers.ts'
import { demandContract } from './demand.ts'
import { eraseContract } from './erase.ts'
import { eventsContract } from './events.ts'
import { explainContract } from './explain.ts'
import { filtersContract } from './filters.ts'
import { Fixture, type Open, WORKER } from './fixture.ts'
import { flowsContract } from './flows.ts'
import { getContract } from './get.ts'
import { groupTimeContract } from './group-time.ts'
import { groupsContract } from './groups.ts'
import { healthContract } from './health.ts'
import { historyContract } from './history.ts'
import { holdsContract } from './holds.ts'
import { keysContract } from './keys.ts'
import { limitsContract } from './limits.ts'
import { listContract } from './list.ts'
import { logsContract } from './logs.ts'
import { payloadsContract } from './payloads.ts'
import { predecessorContract } from './predecessor.ts'
import { randomRun } from './random.ts'
import { RandomLimits } from './random-limits.ts'
import { ratesContract } from './rates.ts'
import { retentionContract } from './retention.ts'
import { retryContract } from './retry.ts'
import { schedulesContract } from './schedules.ts'
import { statsContract } from './stats.ts'
import { submitContract } from './submit.ts'
import { sweepContract } from './sweep.ts'
import { turnContract } from './turn.ts'
import { typesContract } from './types.ts'
import { usesContract } from './uses.ts'
import { workersContract } from './workers.ts'

const START = 1_700_000_000_000
/** Operations of one random sequence with limits. */
const LIMIT_STEPS = 150

/** A fresh store for each test of the block. */
function freshFixture(open: Open): Fixture {
  const fixture = new Fixture(open)
  beforeEach(() => {
    fixture.now = START
    fixture.tickMs = 0
    return fixture.start()
  })
  afterEach(() => fixture.opened.cleanup())
  return fixture
}

/**
 * The rules for every store: one file for each method of the queue, and random sequences of all of them.
 *
 * @param randomRuns fewer where the same engine is reached in another way
 * @param openForLimits opens a store in which all types may share named limits
 */
export function queueContract(name: string, open: Open, randomRuns = 60, openForLimits = open): void {
  describe(`${name}: named limits`, () => {
    const fixture = freshFixture(openForLimits)
    configureLimitContract(fixture)
    limitsContract(fixture)
    usesContract(fixture)

    it('hold in random sequences of operations, keep no task waiting that may start, and lose none', async () => {
      const first = Number(process.env.XQUEUE_SEED ?? Math.floor(Math.random() * 2 ** 30))
      for (let seed = first; seed < first + randomRuns / 3; seed++) {
        const random = new RandomLimits(seed)
        const fresh = await openForLimits({ ...fixture.options, clock: () => random.model.now, leaseMs: 1e9 })
        try {
          await random.run(fresh.queue, LIMIT_STEPS)
        } catch (error) {
          throw new Error(`XQUEUE_SEED=${seed} repeats it`, { cause: error })
        } finally {
          await fresh.cleanup()
        }
      }
    })
  })

  describe(name, () => {
    const fixture = freshFixture(open)

    submitContract(fixture)
    admissionContract(fixture)
    turnContract(fixture)
    sweepContract(fixture)
    cancelContract(fixture)
    retryContract(fixture)
    attemptsContract(fixture)
    logsContract(fixture)
    eraseContract(fixture)
    payloadsContract(fixture)
    retentionContract(fixture)
    flowsContract(fixture)
    predecessorContract(fixture)
    cascadesContract(fixture)
    batchContract(fixture)
    configureTypeContract(fixture)
    declareHandlersContract(fixture)
    groupsContract(fixture)
    groupTimeContract(fixture)
    ratesContract(fixture)
    holdsContract(fixture)
    demandContract(fixture)
    getContract(fixture)
    listContract(fixture)
    filtersContract(fixture)
    explainContract(fixture)
    typesContract(fixture)
    workersContract(fixture)
    statsContract(fixture)
    historyContract(fixture)
    eventsContract(fixture)
    keysContract(fixture)
    schedulesContract(fixture)
    healthContract(fixture)
    closeContract(fixture)

    it('keeps every promise in random sequences of operations', async () => {
      const seed = Number(process.env.XQUEUE_SEED ?? Math.floor(Math.random() * 2 ** 31))
      const path = process.env.XQUEUE_PATH
      const run = fc.asyncProperty(
        fc.commands(randomRun.commands, { size: '+1', ...(path ? { replayPath: path } : {}) }),
        async (commands) => {
          const model = randomRun.model()
          const fresh = await open({ ...fixture.options, clock: () => model.now })
          for (const type of WORKER.types) await randomRun.prepare(fresh.queue, type)
          try {
            await fc.asyncModelRun(() => ({ model, real: fresh.queue }), commands)
            await randomRun.checkHistory(model, fresh.queue)
          } finally {
            await fresh.cleanup()
          }
        },
      )
      // A failure prints the seed; XQUEUE_SEED (and XQUEUE_PATH for the commands) replays it.
      await fc.assert(run, { seed, numRuns: randomRuns, endOnFailure: path !== undefined })
    })
  })
}
