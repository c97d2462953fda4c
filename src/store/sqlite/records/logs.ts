import { taskIdOf } from '../../../task/lease-token.ts'
import { type AttemptLog, LOG_LIMITS, type StoredLine, type StoredLog } from '../../../task/log-line.ts'
import type { Database } from '../database/database.ts'
import { stateOf, type TaskState, tokenOf } from './rows.ts'

/** The lines that handlers of tasks wrote; a task without any has no row. */
export class Logs {
  readonly #database: Database
  readonly #linesMax: number

  /** @param linesMax of a task; 0: none are kept */
  constructor(database: Database, linesMax: number) {
    this.#database = database
    this.#linesMax = linesMax
  }

  /** Adds lines of attempts that run. Those of a lease that is no longer held are dropped. */
  add(logs: readonly AttemptLog[]): void {
    if (logs.length === 0 || this.#linesMax === 0) return
    const byLease = Map.groupBy(logs, ({ lease }) => lease)
    const ids = logs.map(({ lease }) => taskIdOf(lease))
    for (const state of this.#database.arrays('statesById', JSON.stringify(ids)).map(stateOf)) {
      if (state.status !== 'processing') continue
      for (const log of byLease.get(tokenOf(state)) ?? []) this.#write(state, log)
    }
  }

  /** Drops the oldest lines beyond the bounds. */
  #write({ seq, deliveries, attempts }: TaskState, { lines, skipped = 0 }: AttemptLog): void {
    const before = this.#database.get('lastLog', seq) as { last: number; total: number } | undefined
    const body = lines.join('\n')
    const last = (before?.last ?? 0) + skipped + lines.length
    const total = (before?.total ?? 0) + Buffer.byteLength(body)
    this.#database.run('addLog', seq, last, lines.length, deliveries, attempts + 1, total, body)
    if (last <= this.#linesMax && total <= LOG_LIMITS.bytesMax) return
    this.#database.run('dropOldLogs', seq, last - this.#linesMax, total - LOG_LIMITS.bytesMax)
  }

  /** Lines of a task after a position. */
  read(id: string, after: number, max: number): StoredLog {
    const lines: StoredLine[] = []
    for (const { last, count, delivery, attempt, body } of this.#database.each('logsAfter', id, after)) {
      const first = (last as number) - (count as number) + 1
      const place = { delivery: delivery as number, attempt: attempt as number }
      const texts = (body as string).split('\n')
      const read = texts.map((text, at): StoredLine => ({ n: first + at, ...place, text }))
      lines.push(...read.filter(({ n }) => n > after))
      if (lines.length >= max) break
    }
    const leftOut = (this.#database.get('firstLog', id)?.before as number | undefined) ?? 0
    return { lines: lines.slice(0, max), leftOut }
  }

  /** Removes those of removed tasks. */
  drop(seqs: readonly number[]): void {
    if (seqs.length > 0) this.#database.run('dropLogs', JSON.stringify(seqs))
  }
}
