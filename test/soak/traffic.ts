import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'undici'
import type { Ledger } from './ledger.ts'

const BATCH = 25
const CONNECTIONS = 16
const PROBE_EVERY_MS = 50
const HEADERS = { 'Content-Type': 'application/json' }
const TASK = { type: 'soak', payload: { text: 'x'.repeat(80) } }
const BATCH_BODY = JSON.stringify({ tasks: Array.from({ length: BATCH }, () => TASK) })

/** The answers of the server: counts by status, and the duration of a submission. */
export interface Answers {
  statuses: Record<string, number>
  latenciesMs: number[]
}

/** Submits over HTTP at a rate, or as fast as it is answered. */
export class Traffic {
  readonly #pool: Pool
  readonly #ledger: Ledger
  #answers: Answers = { statuses: {}, latenciesMs: [] }

  constructor(address: string, ledger: Ledger) {
    this.#pool = new Pool(address, { connections: CONNECTIONS, bodyTimeout: 60_000, headersTimeout: 60_000 })
    this.#ledger = ledger
  }

  /** Goes on for so long; a rate that is not reached shows in what was accepted. */
  async run(tasksPerSecond: number, ms: number): Promise<void> {
    const end = performance.now() + ms
    const everyMs = (BATCH * CONNECTIONS * 1_000) / tasksPerSecond
    const line = async (index: number) => {
      let next = performance.now() + (everyMs * index) / CONNECTIONS
      while (next < end) {
        await sleep(Math.max(next - performance.now(), 0))
        await this.#post('/api/v1/tasks/batch', BATCH_BODY)
        next = Math.max(next + everyMs, performance.now() - everyMs)
      }
    }
    await Promise.all([...Array.from({ length: CONNECTIONS - 1 }, (_, index) => line(index)), this.#probe(end)])
  }

  /** The answers since the last call. */
  take(): Answers {
    const answers = this.#answers
    this.#answers = { statuses: {}, latenciesMs: [] }
    return answers
  }

  async close(): Promise<void> {
    await this.#pool.destroy()
  }

  async #probe(end: number): Promise<void> {
    while (performance.now() < end) {
      const started = performance.now()
      await this.#post('/api/v1/tasks', JSON.stringify(TASK))
      this.#answers.latenciesMs.push(performance.now() - started)
      await sleep(PROBE_EVERY_MS)
    }
  }

  async #post(path: string, body: string): Promise<void> {
    const { statuses } = this.#answers
    const status = await this.#answer(path, body)
    statuses[status] = (statuses[status] ?? 0) + 1
  }

  async #answer(path: string, body: string): Promise<string> {
    try {
      const answer = await this.#pool.request({ path, method: 'POST', headers: HEADERS, body })
      const text = await answer.body.text()
      if (answer.statusCode === 201) {
        const { id, tasks } = JSON.parse(text) as { id: string; tasks?: { id: string }[] }
        for (const task of tasks ?? [{ id }]) this.#ledger.accept(task.id)
      }
      return String(answer.statusCode)
    } catch (error) {
      return (error as { code?: string }).code ?? String(error)
    }
  }
}
