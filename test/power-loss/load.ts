import { setTimeout as wait } from 'node:timers/promises'
import type { Answer, Api, Body } from '../fixtures/api.ts'
import type { SeededRandom } from '../simulation/random.ts'
import { mark } from './journal.ts'
import type { Mark } from './promises.ts'

/** The local worker runs the first, and this load takes and ends the others over HTTP. */
const TYPES = ['quick', 'remote', 'remote'] as const
const PAYLOAD_BYTES = [0, 100, 3_000, 20_000]
const CALLERS = 6
const REMEMBERED = 40
const READY_AGAIN_MS = 20

export const HANDLERS = `export default { quick: { run: ({ payload }) => payload.n } }\n`

class Outage extends Error {}

function isOutage(error: Error): boolean {
  // The second is of a connection that ended.
  return error instanceof Outage || ['fetch failed', 'terminated'].includes(error.message)
}

/** Callers of servers that share a store, and their marks of each answer in the journal. */
export class Load {
  readonly #servers: readonly Api[]
  readonly #journal: string
  readonly #random: SeededRandom
  #calls = 0
  #recent: string[] = []
  /** One change of a limit after the other: their order is that of the marks. */
  #isChangingLimit = false

  constructor(servers: readonly Api[], journal: string, random: SeededRandom) {
    this.#servers = servers
    this.#journal = journal
    this.#random = random
  }

  get #api(): Api {
    return this.#random.one(this.#servers)
  }

  async declare(): Promise<void> {
    for (const server of this.#servers) {
      const isReady = async () => (await server.get('/handlers')).body.handlers?.includes('quick')
      while (!(await isReady())) await wait(READY_AGAIN_MS)
    }
    const { status } = await this.#api.post('/types/remote', { declared: true })
    if (status !== 200) throw new Error(`the type is refused: ${status}`)
  }

  /** Makes so many calls, with `halfway` after half of them; ends early when that has made calls impossible. */
  async run(calls: number, halfway: () => Promise<void> = async () => {}): Promise<void> {
    const [half, end] = [this.#calls + Math.floor(calls / 2), this.#calls + calls]
    let fault: Promise<void> | undefined
    const caller = async () => {
      while (this.#calls < end) {
        this.#calls += 1
        if (this.#calls === half) fault = halfway()
        await this.#step()
      }
    }
    const results = await Promise.allSettled(Array.from({ length: CALLERS }, caller))
    await fault
    for (const result of results) {
      if (result.status === 'rejected' && !isOutage(result.reason)) throw result.reason
    }
  }

  #step(): Promise<void> {
    const n = this.#random.next()
    if (n < 0.25) return this.#submit()
    if (n < 0.35) return this.#submitBatch()
    if (n < 0.55) return this.#work()
    if (n < 0.65) return this.#cancel()
    return n < 0.7 ? this.#changeLimit() : this.#read()
  }

  #task(): Body {
    const random = this.#random
    return {
      type: random.one(TYPES),
      payload: { n: random.between(0, 1e9), text: 'x'.repeat(random.one(PAYLOAD_BYTES)) },
      max_retry: random.between(0, 1),
      queue_timeout: 0,
      ...(random.chance(0.1) && { delay: 0.05 }),
      ...(random.chance(0.2) && this.#recent.length > 0 && { after: [random.one(this.#recent)], on_failure: 'run' }),
    }
  }

  async #submit(): Promise<void> {
    const body = this.#task()
    const { id } = this.#expect(await this.#api.post('/tasks', body), 201)
    this.#mark({ what: 'accepted', tasks: [{ id, n: body.payload.n, bytes: body.payload.text.length }] })
    this.#remember(id)
  }

  async #submitBatch(): Promise<void> {
    const tasks = Array.from({ length: this.#random.between(2, 8) }, () => this.#task())
    const answer = this.#expect(await this.#api.post('/tasks/batch', { tasks }), 201)
    const ids: string[] = answer.tasks.map(({ id }: Body) => id)
    this.#mark({
      what: 'accepted',
      tasks: tasks.map(({ payload }, index) => ({ id: ids[index]!, n: payload.n, bytes: payload.text.length })),
    })
    for (const id of ids) this.#remember(id)
  }

  /** Takes tasks, and ends most of them. */
  async #work(): Promise<void> {
    const { leases } = this.#expect(await this.#api.post('/tasks/consume', { types: ['remote'], max: 4 }), 200)
    for (const { lease, task } of leases) {
      this.#mark({ what: 'shown', id: task.id, status: 'processing' })
      if (this.#random.chance(0.1)) continue
      const fails = this.#random.chance(0.2)
      const body = fails ? { error: 'on purpose', retry: false } : { result: { of: task.payload.n } }
      const answer = await this.#api.post(`/leases/${lease}/${fails ? 'fail' : 'complete'}`, body)
      // It was canceled meanwhile, or the lease is over.
      if (answer.status === 410) continue
      this.#expect(answer, 200)
      if (answer.body.status === (fails ? 'failed' : 'success')) {
        this.#mark({ what: 'shown', id: task.id, status: answer.body.status })
      }
    }
  }

  async #cancel(): Promise<void> {
    if (this.#recent.length === 0) return
    const id = this.#random.one(this.#recent)
    const answer = await this.#api.call('DELETE', `/tasks/${id}`)
    if (answer.status === 200) this.#mark({ what: 'shown', id, status: 'canceled' })
    else if (answer.status !== 409) this.#expect(answer, 202)
  }

  async #changeLimit(): Promise<void> {
    if (this.#isChangingLimit) return
    this.#isChangingLimit = true
    const limit = this.#random.between(50, 1_000)
    this.#mark({ what: 'limit', limit, isAcknowledged: false })
    try {
      this.#expect(await this.#api.post('/concurrency', { task_type: 'remote', max_concurrency: limit }), 200)
      this.#mark({ what: 'limit', limit, isAcknowledged: true })
    } finally {
      this.#isChangingLimit = false
    }
  }

  /** What a reader has seen must not be undone. */
  async #read(): Promise<void> {
    if (this.#random.chance(0.5)) {
      const { tasks } = this.#expect(await this.#api.get('/tasks?limit=20'), 200)
      for (const { id, status } of tasks) this.#mark({ what: 'shown', id, status })
    } else if (this.#recent.length > 0) {
      const { id, status } = this.#expect(await this.#api.get(`/tasks/${this.#random.one(this.#recent)}`), 200)
      this.#mark({ what: 'shown', id, status })
    }
  }

  #remember(id: string): void {
    this.#recent = [...this.#recent.slice(1 - REMEMBERED), id]
  }

  #mark(what: Mark): void {
    mark(this.#journal, { ...what, at: Date.now() })
  }

  #expect({ status, body }: Answer, expected: number): Body {
    if (status === 503) throw new Outage()
    if (status !== expected) throw new Error(`an answer is ${status}, not ${expected}: ${JSON.stringify(body)}`)
    return body
  }
}
