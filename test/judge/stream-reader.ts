import { setTimeout as wait } from 'node:timers/promises'
import type { Caller } from './caller.ts'
import type { StreamEvent } from './record.ts'

/** Follows the event stream from its first event on, at another server whenever the connection breaks. */
export class StreamReader {
  readonly events: StreamEvent[] = []
  readonly gaps: string[] = []
  /** ms since the epoch. */
  lastAt = 0
  readonly #caller: Caller
  readonly #stop = new AbortController()
  #after: string | null = null
  #done: Promise<void> | undefined

  constructor(caller: Caller) {
    this.#caller = caller
  }

  /** Resolves when the stream has begun: it misses nothing from then on. */
  async start(): Promise<void> {
    const begun = Promise.withResolvers<void>()
    this.#done = this.#read(begun.resolve)
    await begun.promise
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#done
  }

  async #read(begun: () => void): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      try {
        const headers = this.#after === null ? {} : { 'Last-Event-ID': this.#after }
        const answer = await fetch(`${this.#caller.url}/events`, { headers, signal })
        if (answer.ok) {
          this.#after ??= answer.headers.get('last-event-id')
          begun()
          await this.#take(answer.body!.pipeThrough(new TextDecoderStream()))
        }
      } catch {
        // The server has ended, or is not there yet.
      }
      await wait(100, undefined, { signal }).catch(() => undefined)
    }
  }

  async #take(stream: ReadableStream<string>): Promise<void> {
    let text = ''
    for await (const chunk of stream) {
      const blocks = (text + chunk).split('\n\n')
      text = blocks.pop()!
      for (const block of blocks) this.#add(new Map(block.split('\n').map((line) => fieldOf(line))))
    }
  }

  #add(fields: Map<string, string>): void {
    const [kind, id, data] = [fields.get('event'), fields.get('id'), fields.get('data')]
    if (id === undefined || data === undefined) return
    this.#after = id
    this.lastAt = Date.now()
    if (kind === 'gap') this.gaps.push(id)
    if (kind === 'status') this.events.push(JSON.parse(data) as StreamEvent)
  }
}

function fieldOf(line: string): [name: string, value: string] {
  const colon = line.indexOf(':')
  return [line.slice(0, colon), line.slice(colon + 1).trimStart()]
}
