import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { endAtExit } from '../../test/fixtures/processes.ts'
import { cpuMicrosOf } from '../processes.ts'
import type { Program } from './programs.ts'

/** One run of one contender. */
export interface Figure {
  perSecond: number
  /** CPU time of all processes together, for each task. */
  cpuUs: number
  lost: number
  twice: number
  /** Tasks that the store still held without an outcome when the worker had stopped. */
  held: number
  delays: number[]
}

/** A run that takes longer is ended, and counts the tasks that are missing as lost. */
const RUN_MS_MAX = 60_000
const STOP_MS_MAX = 30_000

interface Line {
  event: 'ready' | 'begin' | 'end' | 'done'
  seconds?: number
  lost?: number
  twice?: number
  held?: number
  delays?: number[]
}

/** A program of ../clients/PROTOCOL.md, its lines as they come. */
export class Running {
  readonly pid: number
  readonly #child
  readonly #waiting = new Map<Line['event'], PromiseWithResolvers<Line>>()
  #errors = ''

  constructor({ command, env }: Program, args: readonly (string | number)[]) {
    const [file, ...first] = command
    this.#child = spawn(file!, [...first, ...args.map(String)], { env: { ...process.env, ...env }, stdio: 'pipe' })
    this.pid = this.#child.pid ?? 0
    endAtExit(this.#child)
    this.#child.stderr.on('data', (chunk) => {
      this.#errors = (this.#errors + chunk).slice(-4_000)
    })
    this.#child.stdin.on('error', () => undefined)
    createInterface({ input: this.#child.stdout }).on('line', (text) => {
      if (!text.startsWith('{')) return
      const line = JSON.parse(text) as Line
      this.#of(line.event).resolve(line)
    })
    const ended = (why: unknown) => {
      const error = new Error(`${command.join(' ')} ${args.join(' ')} ended (${why}): ${this.#errors}`)
      for (const event of ['ready', 'begin', 'end', 'done'] as const) this.#of(event).reject(error)
    }
    this.#child.once('error', ended)
    this.#child.once('close', ended)
  }

  next(event: Line['event']): Promise<Line> {
    return this.#of(event).promise
  }

  say(word: 'go' | 'stop'): void {
    this.#child.stdin.write(`${word}\n`)
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS_MAX)
    await once(this.#child, 'exit')
    clearTimeout(timer)
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  #of(event: Line['event']): PromiseWithResolvers<Line> {
    const made = this.#waiting.get(event) ?? Promise.withResolvers<Line>()
    // One that nobody waits for yet may be rejected.
    made.promise.catch(() => undefined)
    this.#waiting.set(event, made)
    return made
  }
}

/** Runs a program that submits or works; `others` are the servers whose CPU time counts as well. */
export async function measure(
  program: Program,
  role: 'submit' | 'work',
  args: readonly number[],
  others: readonly number[],
): Promise<Figure> {
  const running = new Running(program, [role, ...args])
  const all = [running.pid, ...others]
  try {
    await running.next('ready')
    let before = cpuMicrosOf(all)
    running.say('go')
    const timer = setTimeout(() => running.say('stop'), RUN_MS_MAX)
    if (role === 'work') {
      const { event } = await Promise.race([running.next('begin'), running.next('end')])
      if (event === 'begin') before = cpuMicrosOf(all)
    }
    const { seconds } = await running.next('end')
    const cpu = cpuMicrosOf(all) - before
    clearTimeout(timer)
    const { twice = 0, held = 0, delays = [], ...done } = await running.next('done')
    await running.end()
    const [warmup, count] = [args[1]!, args[2]!]
    const figures = { perSecond: count / seconds!, cpuUs: cpu / count, twice, delays }
    if (role === 'submit') return { ...figures, lost: warmup + count - held, held: 0 }
    return { ...figures, lost: done.lost ?? 0, held }
  } finally {
    running.kill()
  }
}

/** Two programs: one submits `perSecond` tasks by the clock, the other one works. The first tasks only warm up. */
export async function paced(
  program: Program,
  perSecond: number,
  warmup: number,
  count: number,
  others: readonly number[],
): Promise<Figure> {
  const worker = new Running(program, ['work', 10, warmup, count, 0, 0])
  let submitter: Running | undefined
  try {
    await worker.next('ready')
    submitter = new Running(program, ['pace', perSecond, warmup + count, 100])
    await submitter.next('ready')
    const all = [worker.pid, submitter.pid, ...others]
    worker.say('go')
    submitter.say('go')
    const timer = setTimeout(() => worker.say('stop'), RUN_MS_MAX + ((warmup + count) / perSecond) * 1_000)
    await Promise.race([worker.next('begin'), worker.next('end')])
    const before = cpuMicrosOf(all)
    const { seconds } = await worker.next('end')
    const cpu = cpuMicrosOf(all) - before
    clearTimeout(timer)
    const { lost = 0, twice = 0, held = 0, delays = [] } = await worker.next('done')
    await submitter.next('end')
    submitter.say('stop')
    await submitter.next('done')
    await Promise.all([worker.end(), submitter.end()])
    return { perSecond: count / seconds!, cpuUs: cpu / count, lost, twice, held, delays }
  } finally {
    worker.kill()
    submitter?.kill()
  }
}
