import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { PAYLOAD } from '../contenders/contender.ts'
import { quantile } from '../report.ts'

/** What was offered to a server, and how it answered. */
export interface Offered {
  accepted: number
  refused: number
  /** Calls whose connection ended, and calls without an answer 15 s after the last one. */
  unanswered: number
  /** Calls that were due while all connections had an unanswered call; they were made later. */
  late: number
  /** Milliseconds from the time at which each accepted call was due: with the wait for a free connection. */
  latencies: number[]
  /** Milliseconds from the sending of each accepted call. */
  answers: number[]
  refusedP99: number
}

const END_MS = 15_000
const TICK_MS = 2

/**
 * `node open-loop.ts URL CONNECTIONS RATE SECONDS`: submits tasks at fixed times, whether or not earlier calls have
 * their answers, on connections that are kept. With the rate 0, each connection has one call after another.
 */
const [url, ...numbers] = process.argv.slice(2)
const [connections, rate, seconds] = numbers.map(Number) as [number, number, number]
const { hostname, port } = new URL(url!)
const body = JSON.stringify({ type: 'bench', payload: PAYLOAD })
const call = [
  'POST /api/v1/tasks HTTP/1.1',
  `Host: ${hostname}:${port}`,
  'Content-Type: application/json',
  `Content-Length: ${body.length}`,
  '',
  body,
].join('\r\n')

const latencies: number[] = []
const answers: number[] = []
const refusals: number[] = []
const due: number[] = []
const idle: Connection[] = []
let [unanswered, late, isOver] = [0, 0, false]

/** A connection with one call at a time. */
class Connection {
  readonly #socket: Socket
  #dueAt: number | null = null
  #sentAt = 0
  #answer = ''

  constructor(socket: Socket) {
    this.#socket = socket.setNoDelay().setEncoding('latin1')
    socket.on('data', (data) => this.#read(data as unknown as string))
    socket.on('error', () => undefined)
    socket.on('close', () => {
      if (this.#dueAt !== null) unanswered += 1
    })
    this.#next()
  }

  submit(dueAt: number): void {
    this.#dueAt = dueAt
    this.#sentAt = performance.now()
    this.#socket.write(call)
  }

  #read(data: string): void {
    this.#answer += data
    const head = this.#answer.indexOf('\r\n\r\n')
    const length = Number(/content-length: (\d+)/i.exec(this.#answer)?.[1])
    if (head === -1 || this.#answer.length < head + 4 + length || this.#dueAt === null) return
    const status = this.#answer.slice(9, 12)
    const ms = performance.now() - this.#sentAt
    if (status === '201') {
      latencies.push(performance.now() - this.#dueAt)
      answers.push(ms)
    } else if (status === '503') refusals.push(ms)
    else throw new Error(this.#answer)
    this.#answer = ''
    this.#dueAt = null
    this.#next()
  }

  #next(): void {
    const next = due.shift()
    if (next !== undefined) {
      late += 1
      this.submit(next)
    } else if (rate === 0 && !isOver) this.submit(performance.now())
    else idle.push(this)
  }
}

for (let opened = 0; opened < connections; opened += 100) {
  await Promise.all(
    Array.from({ length: Math.min(100, connections - opened) }, async () => {
      const socket = connect(Number(port), hostname)
      await once(socket, 'connect')
      new Connection(socket)
    }),
  )
}

const start = performance.now()
let made = 0
while (performance.now() - start < seconds * 1_000) {
  const shouldHaveMade = Math.floor(((performance.now() - start) / 1_000) * rate)
  for (; made < shouldHaveMade; made++) {
    const dueAt = start + (made / rate) * 1_000
    const connection = idle.pop()
    if (connection) connection.submit(dueAt)
    else due.push(dueAt)
  }
  await new Promise((resolve) => setTimeout(resolve, TICK_MS))
}
isOver = true
const end = performance.now()
while (idle.length < connections && performance.now() - end < END_MS) {
  await new Promise((resolve) => setTimeout(resolve, 50))
}
unanswered += connections - idle.length
const offered: Offered = {
  accepted: latencies.length,
  refused: refusals.length,
  unanswered,
  late,
  latencies,
  answers,
  refusedP99: quantile(refusals, 0.99) ?? 0,
}
process.stdout.write(JSON.stringify(offered), () => process.exit())
