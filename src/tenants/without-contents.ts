import type { Engine, ListQuery } from '../engine/engine.ts'
import { RedactedEngine } from '../engine/redacted-engine.ts'
import { hideContents } from '../task/contents.ts'

/** An engine that shows tasks, events and schedules without payloads, results and errors. */
export function withoutContents(engine: Engine): Engine {
  return new WithoutContents(engine, hideContents)
}

class WithoutContents extends RedactedEngine {
  /** Hidden contents are not read either. */
  override get(ids: readonly string[]) {
    return super.get(ids, { bare: true })
  }

  override list(query: ListQuery) {
    return super.list({ ...query, bare: true })
  }
}
