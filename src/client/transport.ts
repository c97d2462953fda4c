import { isFetchTraced } from '../trace/inject.ts'

/** What a call sends, as for `fetch`. */
export interface Sent {
  method: string
  headers: Record<string, string>
  body?: string
  signal?: AbortSignal
  /** Receives the text of a successful answer piece by piece; the text of the answer is then empty. */
  received?: (piece: string) => void
}

export interface Answer {
  status: number
  statusText: string
  /** A header by its name in lower case. */
  header(name: string): string | null
  text: string
}

type Http = typeof import('node:http')

const builtin = globalThis.process?.getBuiltinModule
/** Other runtimes offer the modules of Node.js too, but there `fetch` is their own. */
const isNode = globalThis.navigator?.userAgent?.startsWith('Node.js/') ?? false
/** Where undici, of which `fetch` is a part, keeps the dispatcher for all calls: its version 8, and older ones. */
const DISPATCHERS = [Symbol.for('undici.globalDispatcher.2'), Symbol.for('undici.globalDispatcher.1')] as const
const original = globalThis.fetch

/**
 * Sends one call and reads the answer. On Node.js it uses `node:http`: that costs less than half the CPU time of
 * `fetch`, which also opens a new connection for each call once a server has closed some
 * (https://github.com/nodejs/undici/issues/5022).
 *
 * @param own the caller's `fetch`
 * @throws the error of the connection, with its `code`, or as `cause` of an error of `fetch`
 */
export async function send(url: string, sent: Sent, own?: typeof fetch): Promise<Answer> {
  const http = own || !isNode || isFetchAdapted() ? null : moduleOf(url)
  return (http && (await sendByHttp(http, url, sent))) ?? sendByFetch(own ?? fetch, url, sent)
}

/** Whether the program has its own way to call with `fetch`: traces, a dispatcher, or a stand-in for tests. */
function isFetchAdapted(): boolean {
  if (globalThis.fetch !== original || isFetchTraced()) return true
  const places = globalThis as { [place: symbol]: object | undefined }
  const place = DISPATCHERS.find((one) => places[one])
  return place !== undefined && !isDefault(places[place]!)
}

/** Whether a dispatcher is an `Agent` without options, such as certificates. If that cannot be seen, it is not. */
function isDefault(dispatcher: object): boolean {
  const place = Object.getOwnPropertySymbols(dispatcher).find(({ description }) => description === 'options')
  if (place === undefined || dispatcher.constructor.name !== 'Agent') return false
  const options = Object.values((dispatcher as { [key: symbol]: object })[place]!)
  return options.every((value) => value === undefined || value === Number.POSITIVE_INFINITY)
}

function moduleOf(url: string): Http | null {
  if (url.startsWith('http:')) return builtin?.('node:http') ?? null
  if (url.startsWith('https:')) return (builtin?.('node:https') as unknown as Http) ?? null
  return null
}

/** Null for a redirection, which `fetch` follows. */
function sendByHttp({ request }: Http, url: string, { body, received, ...options }: Sent): Promise<Answer | null> {
  return new Promise((resolve, reject) => {
    const call = request(url, options, (response) => {
      const { statusCode: status = 0, statusMessage: statusText = '', headers } = response
      const header = (name: string) => headers[name]?.toString() ?? null
      const isRedirection = status >= 300 && header('location') !== null
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (piece: string) => {
        if (!received || !isSuccess(status)) {
          text += piece
          return
        }
        try {
          received(piece)
        } catch (error) {
          response.destroy(error as Error)
        }
      })
      response.once('error', reject)
      response.once('end', () => resolve(isRedirection ? null : { status, statusText, header, text }))
    })
    call.once('error', reject)
    call.end(body)
  })
}

async function sendByFetch(by: typeof fetch, url: string, { received, ...sent }: Sent): Promise<Answer> {
  const response = await by(url, sent)
  const { status, statusText, headers } = response
  const answer = { status, statusText, header: (name: string) => headers.get(name) }
  if (!received || !isSuccess(status)) return { ...answer, text: await response.text() }
  if (response.body) for await (const piece of textsOf(response.body)) received(piece)
  return { ...answer, text: '' }
}

function isSuccess(status: number): boolean {
  return status >= 200 && status < 300
}

/** The text of a body as it comes. */
export async function* textsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  const reader = body.getReader() // Safari cannot iterate over a stream.
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    yield decoder.decode(piece.value, { stream: true })
  }
}
