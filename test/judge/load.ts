import { setTimeout as wait } from 'node:timers/promises'
import type { SeededRandom } from '../simulation/random.ts'
import type { Caller } from './caller.ts'
import type { Body, Change, LimitChange, Submission } from './record.ts'

/** Some types are drawn more often. */
const TYPES = ['plain', 'plain', 'narrow', 'grouped', 'rated', 'pool-one', 'pool-two']
/** Submissions whose own mistake is refused. */
const MISTAKES: readonly object[] = [{ type: 'unknown' }, { priority: 11 }, { max_retry: -1 }, { color: 'red' }]
const LIMITS = [
  { name: 'type:narrow', choices: [1, 2, 3, 5] },
  { name: 'pool', choices: [2, 3, 4, 6] },
]

/** Calls of users, drawn from a seed, until it is stopped. */
export class Load {
  readonly submissions: Submission[] = []
  readonly changes: Change[] = []
  readonly limits: LimitChange[] = []
  readonly #caller: Caller
  readonly #random: SeededRandom
  readonly #stop = new AbortController()
  readonly #running = new Set<Promise<void>>()
  #accepted: string[] = []
  /** A retried task waits again for those that it waited for, perhaps for ever. */
  readonly #successors = new Set<string>()

  constructor(caller: Caller, random: SeededRandom) {
    this.#caller = caller
    this.#random = random
  }

  /** @param perSecond submissions; the other calls come beside them */
  start(perSecond: number): void {
    const random = this.#random
    const every = (ms: () => number, act: () => Promise<void>) => this.#track(this.#repeat(ms, act))
    every(
      () => random.between(1, 2_000 / perSecond),
      async () => this.#track(this.#submit(this.#draw())),
    )
    every(
      () => random.between(100, 500),
      () => this.#change(),
    )
    every(
      () => random.between(300, 1_500),
      () => this.#changeLimit(),
    )
  }

  /** Resolves when every call has an answer, or has failed for good. */
  async stop(): Promise<void> {
    this.#stop.abort()
    while (this.#running.size > 0) await Promise.all(this.#running)
  }

  #track(work: Promise<void>): void {
    const tracked = work
      .catch((error: Error) => {
        this.#caller.badAnswers.push(error.message)
      })
      .finally(() => this.#running.delete(tracked))
    this.#running.add(tracked)
  }

  async #repeat(ms: () => number, act: () => Promise<void>): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      await wait(ms(), undefined, { signal }).catch(() => undefined)
      if (!signal.aborted) await act()
    }
  }

  #draw(): { body: Body; isMistaken: boolean } {
    const random = this.#random
    const n = this.submissions.length
    const type = random.one(TYPES)
    const retries = random.between(0, 2)
    const failures = random.chance(0.2) ? random.between(1, 3) : 0
    const hangs = random.chance(0.03)
    const slow = random.chance(0.15)
    const recent = this.#accepted.slice(-30)
    const isMistaken = random.chance(0.05)
    const body: Body = {
      type,
      payload: { n, ms: slow ? random.between(500, 2_000) : random.between(0, 60), failures, ...(hangs && { hangs }) },
      tags: { n: String(n) },
      max_retry: retries,
      ...(hangs && { process_timeout: 1 }),
      ...(random.chance(0.3) && { priority: random.between(0, 9) }),
      ...(random.chance(0.15) && { delay: random.between(1, 30) / 10 }),
      ...(type === 'grouped' && { group: `g${random.between(1, 5)}` }),
      ...(recent.length > 1 && random.chance(0.1) && { after: [...new Set([random.one(recent), random.one(recent)])] }),
      ...(random.chance(0.7) && { idempotency_key: `key-${n}` }),
      ...(isMistaken && random.one(MISTAKES)),
    }
    return { body, isMistaken }
  }

  async #submit({ body, isMistaken }: { body: Body; isMistaken: boolean }): Promise<void> {
    const submission: Submission = { n: body.payload.n, body, sentAt: Date.now(), ids: [], refused: null }
    this.submissions.push(submission)
    const { idempotency_key: key } = body
    const answer =
      key === undefined
        ? await this.#caller.call('POST', '/tasks', body)
        : await this.#caller.callUntilAnswered('POST', '/tasks', body)
    this.#note(submission, answer)
    if (isMistaken && submission.ids.length > 0) this.#caller.badAnswers.push(`accepted: ${JSON.stringify(body)}`)
    // The same key again, from the start or much later.
    if (key !== undefined && submission.ids.length > 0 && this.#random.chance(0.1)) {
      this.#note(submission, await this.#caller.callUntilAnswered('POST', '/tasks', body))
    }
  }

  #note(submission: Submission, answer: Awaited<ReturnType<Caller['call']>>): void {
    if (!answer) return
    const { status, body } = answer
    if (status === 200 || status === 201) {
      submission.ids.push(body.id)
      if (submission.body.after) this.#successors.add(body.id)
      this.#accepted.push(body.id)
      if (this.#accepted.length > 1_000) this.#accepted = this.#accepted.slice(-500)
    } else if (status >= 400 && status < 500 && status !== 408) submission.refused = status
  }

  async #change(): Promise<void> {
    if (this.#accepted.length === 0) return
    const id = this.#random.one(this.#accepted.slice(-40))
    const what = this.#random.chance(0.6) || this.#successors.has(id) ? 'cancel' : 'retry'
    const change: Change = { what, id, status: null }
    this.changes.push(change)
    const answer =
      what === 'cancel'
        ? await this.#caller.call('DELETE', `/tasks/${id}`)
        : await this.#caller.call('POST', `/tasks/${id}/retry`)
    change.status = answer?.status ?? null
  }

  async #changeLimit(): Promise<void> {
    const { name, choices } = this.#random.one(LIMITS)
    const change: LimitChange = { name, max: this.#random.one(choices), sentAt: Date.now(), answeredAt: null }
    this.limits.push(change)
    const answer = await this.#caller.call('PUT', `/limits/${encodeURIComponent(name)}`, { max: change.max })
    if (answer?.status === 200) change.answeredAt = Date.now()
  }
}
