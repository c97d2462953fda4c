import { type CallOptions, call, type Server } from '../client/call.ts'
import type { HandlerSettings, Lease, Turn, TurnAnswer, WorkerIdentity } from '../queue/queue.ts'
import { XQueueError } from '../task/errors.ts'
import type { Predecessor } from '../task/flow.ts'
import type { TaskSource } from '../worker/task-source.ts'
import {
  handlerText,
  leaseOf,
  logsText,
  outcomeText,
  renewalText,
  renewedOf,
  settledOf,
  type TurnJson,
} from './turn-json.ts'

/** Types of one worker, and items of one call. */
const TYPES_MAX = 100
const ITEMS_MAX = 1_000
const CHARS_MAX = 4 * 1024 * 1024
/** How long a call waits for a task, and the time after which its connection counts as dead. */
const WAIT_S = 20
const TIMEOUT_MS = 30_000
/** How long the answer of a call that takes tasks may be on its way when it is no longer wanted. */
const LAST_ANSWER_MS_MAX = 500
/** Calls of which the one with the quickest answer tells how far the clocks are apart, and the resolution of `Date`. */
const CLOCK_CALLS = 8
const DATE_MS = 1_000
const REMEDY = 'start several workers, each with some of the handlers'

type Undeclared = (types: readonly string[], why: string) => void
/** Refusals of a server that does not take settings of handlers: for this key, or in its version. */
const UNDECLARED: readonly string[] = ['forbidden', 'not_found', 'method_not_allowed']

/** A call that waits for tasks, or, with none wanted, only for requests to cancel running ones. */
interface Waiting {
  want: number
  /** Whether a turn waits for its end. */
  isAwaited: boolean
  ended: Promise<void>
  /** Breaks it, later if it takes tasks: those of an answer on its way would wait until their leases end. */
  close(): void
}

/**
 * A server as the source of a worker's tasks. A call that waits stays open while its worker reports: closing it could
 * lose a task that is on its way, and would cost its connection. The turn ends without it, and a later turn returns
 * what it brings.
 */
export class RemoteSource implements TaskSource {
  readonly url: string
  readonly key: string | null
  readonly turnsAtOnce = 2
  readonly #server: Server
  #waiting: Waiting | null = null
  /** Opened by a full worker; it stays open when the worker has room again. */
  #watching: Waiting | null = null
  /** Taken, and not returned yet. */
  #leases: Lease[] = []
  #cancelRequested: string[] = []
  /** How far this machine's clock seemed to be ahead of the server's, in the latest calls. */
  readonly #ahead: number[] = []
  readonly #undeclared: Undeclared

  /** @param undeclared called with handlers whose settings the server does not take, and the reason */
  constructor(server: Server, undeclared: Undeclared = () => undefined) {
    this.#server = server
    this.#undeclared = undeclared
    this.url = server.url
    this.key = server.key
  }

  /**
   * Makes the types and the worker known to the server.
   * @throws XQueueError the refusal of the server, such as `unauthorized`, or `engine_unavailable`
   */
  async register(worker: WorkerIdentity): Promise<void> {
    const { length } = worker.types
    if (length > TYPES_MAX) {
      const detail = `the worker has ${length} handlers, a worker over HTTP has at most ${TYPES_MAX}: ${REMEDY}`
      throw new XQueueError('invalid_handlers', detail)
    }
    await this.#call(`{${claimText(worker, 0)}}`)
  }

  /**
   * Where the server does not take the settings, it runs the tasks without them: the turns make the types known.
   * @throws XQueueError `engine_unavailable`, or a refusal of their values
   */
  async declareHandlers(handlers: ReadonlyMap<string, HandlerSettings>): Promise<void> {
    const computed = [...handlers].filter(([, { defaults }]) => defaults.usesOfPayload)
    for (const [type] of computed) {
      this.#undeclared([type], 'its `uses` is a function, which only a server or a worker on the store can call')
    }
    const texts = [...handlers].filter((one) => !computed.includes(one)).map((one) => handlerText(...one))
    try {
      for (const chunk of chunksOf(texts)) await this.#post('/handlers', `{"handlers":[${chunk.join(',')}]}`)
    } catch (error) {
      if (!(error instanceof XQueueError && UNDECLARED.includes(error.code))) throw error
      this.#undeclared([...handlers.keys()], error.message)
    }
  }

  async predecessor(lease: string, id: string): Promise<Predecessor | null> {
    const path = `/leases/${encodeURIComponent(lease)}/predecessors/${encodeURIComponent(id)}`
    return call<Predecessor>(this.#server, 'GET', path).catch((error: unknown) => {
      if (error instanceof XQueueError && error.code === 'not_found') return null
      throw error
    })
  }

  async turn(turn: Turn): Promise<TurnAnswer> {
    const { outcomes = [], renewals = [], logs = [], want, waitMs = 0, leaving = false } = turn
    if (want === 0) this.#waiting?.close()
    if (leaving) return this.#leave(turn)
    const isWaiting = waitMs > 0 && outcomes.length + renewals.length + logs.length + this.#leases.length === 0
    if (!isWaiting) return this.#report(turn)
    await this.#wait(turn)
    return this.#answer([], [])
  }

  /** Gives back tasks that were on their way, and signs off; an older server forgets the worker after a minute. */
  async #leave({ worker }: Turn): Promise<TurnAnswer> {
    this.#watching?.close()
    await this.#waiting?.ended.catch(() => undefined)
    const leases = this.#leases.splice(0)
    const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'released' } as const }))
    const answer = await this.#report({ worker, want: 0, outcomes })
    await this.#call(`{${claimText(worker, 0)},"leaving":true}`).catch((error: unknown) => {
      if (!(error instanceof XQueueError && error.code === 'invalid_request')) throw error
    })
    return answer
  }

  /** Reports, and takes tasks that are ready. */
  async #report({ worker, outcomes = [], renewals = [], logs = [], want }: Turn): Promise<TurnAnswer> {
    const texts = outcomes.map(outcomeText)
    const sent = chunksOf(texts.filter((text) => text !== null)).map((chunk) => `{"outcomes":[${chunk.join(',')}]`)
    const renewing = chunksOf(renewals.map(renewalText)).map((chunk) => `{"renewals":[${chunk.join(',')}]`)
    const expected = this.#waiting && !this.#waiting.isAwaited ? this.#waiting.want : 0
    const free = Math.min(Math.max(want - expected - this.#leases.length, 0), ITEMS_MAX)
    const logged = chunksOf(logs.map(logsText)).map((chunk) => `{"logs":[${chunk.join(',')}]`)
    const bodies = [...logged, ...renewing, ...sent]
    if (free > 0) {
      const last = bodies.pop()
      bodies.push(`${last === undefined ? '{' : `${last},`}${claimText(worker, free)}`)
    }
    const answers = []
    for (const body of bodies) answers.push(await this.#call(`${body}}`))
    for (const { json, aheadMs } of answers) this.#keep(json, aheadMs)
    const settled = answers.flatMap(({ json }) => json.outcomes).values()
    const renewed = answers.flatMap(({ json, aheadMs }) => json.renewals.map((one) => renewedOf(one, aheadMs)))
    renewed.forEach((one, index) => {
      if (one?.cancelRequested) this.#cancelRequested.push(renewals[index]!.lease)
    })
    const all = texts.map((text) =>
      text === null ? { accepted: true, status: null } : settledOf(settled.next().value!),
    )
    return this.#answer(all, renewed)
  }

  /** Waits for a call that waits for tasks, until the signal aborts. */
  async #wait({ worker, want, signal }: Turn): Promise<void> {
    const own = want === 0 ? this.#watch(worker) : this.#claim(worker, want)
    own.isAwaited = true
    const aborted = Promise.withResolvers<void>()
    const leave = () => aborted.resolve()
    if (signal?.aborted) leave()
    signal?.addEventListener('abort', leave, { once: true })
    try {
      await Promise.race([this.#waiting?.ended, this.#watching?.ended, aborted.promise].filter((one) => one))
    } finally {
      own.isAwaited = false
      signal?.removeEventListener('abort', leave)
    }
  }

  #claim(worker: WorkerIdentity, want: number): Waiting {
    const over = () => {
      this.#waiting = null
    }
    this.#waiting ??= this.#open(worker, want, over)
    return this.#waiting
  }

  #watch(worker: WorkerIdentity): Waiting {
    const over = () => {
      this.#watching = null
    }
    this.#watching ??= this.#open(worker, 0, over)
    return this.#watching
  }

  #open(worker: WorkerIdentity, want: number, over: () => void): Waiting {
    const closing = new AbortController()
    const take = async () => {
      try {
        const body = `{${claimText(worker, Math.min(want, ITEMS_MAX))},"wait":${WAIT_S}}`
        const { json, aheadMs } = await this.#call(body, closing.signal)
        this.#keep(json, aheadMs)
      } catch (error) {
        if (!closing.signal.aborted) throw error
      } finally {
        clearTimeout(breaking)
        over()
      }
    }
    let breaking: NodeJS.Timeout | undefined
    const close = () => {
      if (want === 0) closing.abort()
      else breaking ??= setTimeout(() => closing.abort(), LAST_ANSWER_MS_MAX)
    }
    const ended = take()
    // The turn that waits for it reports the error; another turn makes its own call.
    ended.catch(() => undefined)
    return { want, isAwaited: false, ended, close }
  }

  #keep({ leases, cancel_requested = [] }: TurnJson, aheadMs: number): void {
    for (const lease of leases) this.#leases.push(leaseOf(lease, aheadMs))
    this.#cancelRequested.push(...cancel_requested)
  }

  #answer(settled: TurnAnswer['settled'], renewed: TurnAnswer['renewed']): TurnAnswer {
    return { settled, renewed, leases: this.#leases.splice(0), cancelRequested: this.#cancelRequested.splice(0) }
  }

  async #call(text: string, signal?: AbortSignal): Promise<{ json: TurnJson; aheadMs: number }> {
    return { json: await this.#post<TurnJson>('/tasks/turn', text, signal), aheadMs: this.#aheadMs }
  }

  async #post<T>(path: string, text: string, signal?: AbortSignal): Promise<T> {
    const timeout = AbortSignal.timeout(TIMEOUT_MS)
    const answered: CallOptions['answered'] = ({ header }) => this.#compareClocks(Date.parse(header('date') ?? ''))
    const options = {
      text,
      repeatable: true,
      signal: AbortSignal.any(signal ? [signal, timeout] : [timeout]),
      answered,
    }
    try {
      return await call<T>(this.#server, 'POST', path, undefined, options)
    } catch (error) {
      if (!timeout.aborted) throw error
      throw new XQueueError('engine_unavailable', `${this.url} has not answered for ${TIMEOUT_MS / 1_000} seconds`)
    }
  }

  #compareClocks(sentAt: number): void {
    if (!(sentAt > 0)) return
    this.#ahead.push(Date.now() - sentAt)
    if (this.#ahead.length > CLOCK_CALLS) this.#ahead.shift()
  }

  /**
   * Never more than the truth: an answer that is read late, as after the process stood still, makes the clock seem
   * ahead, and a lease longer than it is.
   */
  get #aheadMs(): number {
    return this.#ahead.length === 0 ? 0 : Math.min(...this.#ahead) - DATE_MS
  }
}

function claimText({ id, types, concurrency }: WorkerIdentity, max: number): string {
  const worker = `"types":${JSON.stringify(types)},"worker_id":${JSON.stringify(id.slice(0, 100))}`
  return `${worker},"concurrency":${concurrency},"max":${max}`
}

/** Texts in groups of what one call may have. */
function chunksOf(texts: readonly string[]): string[][] {
  const chunks: string[][] = []
  let chars = CHARS_MAX
  for (const text of texts) {
    const last = chunks.at(-1)
    if (!last || last.length >= ITEMS_MAX || chars + text.length > CHARS_MAX) {
      chunks.push([text])
      chars = text.length
    } else {
      last.push(text)
      chars += text.length
    }
  }
  return chunks
}
