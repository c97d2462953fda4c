import { setTimeout as wait } from 'node:timers/promises'

// biome-ignore lint/suspicious/noExplicitAny: answers of every call
type Body = any

const CALL_MS_MAX = 10_000
const ANSWER_MS_MAX = 120_000

/** Calls one of several servers, and notes errors that are no problem documents, or that are the server's own. */
export class Caller {
  readonly badAnswers: string[] = []
  readonly #urls: readonly string[]
  #next = 0

  constructor(urls: readonly string[]) {
    this.#urls = urls
  }

  /** Another one with each call. */
  get url(): string {
    this.#next += 1
    return `${this.#urls[this.#next % this.#urls.length]}/api/v1`
  }

  /** Null without an answer: the call may have taken effect. */
  async call(method: string, path: string, body?: unknown): Promise<{ status: number; body: Body } | null> {
    const json = body === undefined ? {} : { headers: { 'Content-Type': 'application/json' } }
    const sent = body === undefined ? {} : { body: JSON.stringify(body) }
    try {
      const answer = await fetch(this.url + path, {
        method,
        ...json,
        ...sent,
        signal: AbortSignal.timeout(CALL_MS_MAX),
      })
      const text = await answer.text()
      const kind = answer.headers.get('content-type') ?? ''
      const isProblem = kind.startsWith('application/problem+json') && JSON.parse(text).code
      if (!answer.ok && (!isProblem || answer.status === 500)) {
        this.badAnswers.push(`${method} ${path}: ${answer.status} ${kind} ${text.slice(0, 200)}`)
      }
      return { status: answer.status, body: text.startsWith('{') ? JSON.parse(text) : text }
    } catch {
      return null
    }
  }

  /** Repeats a call until it has an answer that is not the server's failure. @throws Error if none comes */
  async callUntilAnswered(method: string, path: string, body?: unknown): Promise<{ status: number; body: Body }> {
    const until = Date.now() + ANSWER_MS_MAX
    for (;;) {
      const answer = await this.call(method, path, body)
      if (answer && answer.status < 500 && answer.status !== 408) return answer
      if (Date.now() > until) throw new Error(`${method} ${path} has no answer: ${JSON.stringify(answer)}`)
      await wait(200)
    }
  }
}
