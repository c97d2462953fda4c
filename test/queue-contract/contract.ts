import fc from 'fast-check'
import { afterEach, beforeEach, describe, it } from 'vitest'
import { isLong } from '../fixtures/long.ts'
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
import { leasesContract } from './leases.ts'
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
/** So many more random sequences run nightly. */
const LONG_FACTOR = 10

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

/** In the order of a task's life. `health` comes late: it sees what the others have left. */
const METHODS: readonly ((fixture: Fixture) => void)[] = [
  submitContract,
  admissionContract,
  turnContract,
  leasesContract,
  sweepContract,
  cancelContract,
  retryContract,
  attemptsContract,
  logsContract,
  eraseContract,
  payloadsContract,
  retentionContract,
  flowsContract,
  predecessorContract,
  cascadesContract,
  batchContract,
  configureTypeContract,
  declareHandlersContract,
  groupsContract,
  groupTimeContract,
  ratesContract,
  holdsContract,
  demandContract,
  getContract,
  listContract,
  filtersContract,
  explainContract,
  typesContract,
  workersContract,
  statsContract,
  historyContract,
  eventsContract,
  keysContract,
  schedulesContract,
  healthContract,
  closeContract,
]
const LIMITS: readonly ((fixture: Fixture) => void)[] = [configureLimitContract, limitsContract, usesContract]
/** They send every kind of call, wait, are woken, and read and write documents. */
const CONNECTION = [
  submitContract,
  turnContract,
  holdsContract,
  eventsContract,
  keysContract,
  healthContract,
  closeContract,
]

/**
 * The methods that `npm test` checks. `npm run test:long` checks all of them everywhere.
 *
 * - `all`
 * - `even`, `odd`: every second one, for two servers that run the same scripts as a third one, which checks all
 * - `connection`: for another way to a server that checks all
 */
export type Part = 'all' | 'even' | 'odd' | 'connection'

function chosen(part: Part, methods: typeof METHODS): typeof METHODS {
  if (part === 'all' || isLong) return methods
  if (part === 'connection') return methods.filter((method) => CONNECTION.includes(method))
  return methods.filter((_, index) => index % 2 === (part === 'even' ? 0 : 1))
}

export interface ContractOptions {
  part?: Part
  /** Random sequences; fewer where the same store is reached in another way. */
  randomRuns?: number
  /** Opens a store in which all types may share named limits. */
  openForLimits?: Open
}

/** The rules for every store: one file for each method of the queue, and random sequences of all of them. */
export function queueContract(name: string, open: Open, options: ContractOptions = {}): void {
  const { part = 'all', openForLimits = open } = options
  const randomRuns = (options.randomRuns ?? 30) * (isLong ? LONG_FACTOR : 1)
  describe(`${name}: named limits`, () => {
    const fixture = freshFixture(openForLimits)
    for (const contract of chosen(part, LIMITS)) contract(fixture)

    it('hold in random sequences of operations, keep no task waiting that may start, and lose none', async () => {
      const first = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 30))
      for (let seed = first; seed < first + randomRuns / 3; seed++) {
        const random = new RandomLimits(seed)
        const fresh = await openForLimits({ ...fixture.options, clock: () => random.model.now, leaseMs: 1e9 })
        try {
          await random.run(fresh.queue, LIMIT_STEPS)
        } catch (error) {
          throw new Error(`TEST_SEED=${seed} repeats it`, { cause: error })
        } finally {
          await fresh.cleanup()
        }
      }
    })
  })

  describe(name, () => {
    const fixture = freshFixture(open)

    for (const contract of chosen(part, METHODS)) contract(fixture)

    it('keeps every promise in random sequences of operations', async () => {
      const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
      const path = process.env.TEST_PATH
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
      // A failure prints the seed; TEST_SEED (and TEST_PATH for the commands) replays it.
      await fc.assert(run, { seed, numRuns: randomRuns, endOnFailure: path !== undefined })
    })
  })
}
