import type { StoreOptions } from '../options.ts'
import type { Database } from './database/database.ts'
import { Space } from './database/space.ts'
import { Due } from './due/due.ts'
import { Flows } from './flows/flows.ts'
import { Limits } from './limits/limits.ts'
import { Attempts } from './records/attempts.ts'
import { Logs } from './records/logs.ts'
import { GroupScheduler } from './turn/group-scheduler.ts'
import { Planner } from './turn/planner.ts'
import { RateLog } from './turn/rate-log.ts'
import { SharedTime } from './turn/shared-time.ts'
import { Rates } from './types/rates.ts'
import { Registry } from './types/types.ts'

/** The parts of the store that operations share, each over one subject of the file. */
export interface Parts {
  database: Database
  options: StoreOptions
  due: Due
  registry: Registry
  rates: Rates
  rateLog: RateLog
  limits: Limits
  groups: GroupScheduler
  planner: Planner
  flows: Flows
  attempts: Attempts
  logs: Logs
  space: Space
}

export function partsOf(database: Database, options: StoreOptions): Parts {
  const rateLog = new RateLog(database)
  const limits = new Limits(database, rateLog)
  const registry = new Registry(database, options)
  const time = new SharedTime(database, (type) => registry.rules(type)?.groupTurns === 'time')
  const groups = new GroupScheduler(database, limits, time)
  return {
    database,
    options,
    due: new Due(database),
    registry,
    rates: new Rates(database),
    rateLog,
    limits,
    groups,
    planner: new Planner(registry, groups, limits, rateLog),
    flows: new Flows(database),
    attempts: new Attempts(database),
    logs: new Logs(database, options.logLinesMax),
    space: new Space(database),
  }
}
