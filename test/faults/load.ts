import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, fstatSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, vi } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import type { Uses } from '../../src/task/uses.ts'
import { endAtExit, removeAtExit } from '../fixtures/processes.ts'
import { allEvents, check, type History, type Line, type Violation } from './history.ts'
import type { LoadInput } from './load-process.ts'

/** The long form of the fault tests goes on for so many seconds with each of them. */
export const FAULT_SECONDS = Number(process.env.TEST_FAULT_SECONDS ?? 0)
// A run that hangs ends by STUCK_MS; this is far above the time of a run on a busy machine.
vi.setConfig({ testTimeout: 180_000 + 2_000 * FAULT_SECONDS })
export const LEASE_MS = 1_500
/** How long a call waits while Redis is away. */
export const WAIT_MS = 1_000
export const LIMITS = { mail: 5, image: 3, 'search.index': null }
/** Limits that tasks of all types share, also by key. */
export const NAMED = { slots: { max: 6 }, 'tenant/*': { max: 3 } }
/** A run that makes no progress for so long hangs. */
const STUCK_MS = 30_000
const SOURCE = join(import.meta.dirname, '../../src')

export interface LoadOptions {
  limits?: Record<string, number | null>
  /** Named limits that half of the tasks use. */
  named?: Record<string, { max: number }>
  workers?: number
  submitters?: number
  rate?: number
  /** Where the code is that a process runs, by its number; default this version. */
  source?: (index: number) => string
  /** For each process, beside the test's own environment. */
  env?: Record<string, string>
}

export interface Member {
  role: 'submit' | 'work'
  child: ChildProcess
  log: string
  /** The lines of `log` that were read, and their length. */
  lines: Line[]
  bytes: number
}

/** Processes that submit and work while a test breaks something, and what they wrote down. */
export class Load {
  readonly members: Member[] = []
  readonly #url: string
  readonly #options: Required<LoadOptions>
  readonly #folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-load-')))

  /** @param url as the processes reach it, perhaps through a broken network */
  static async start(url: string, options: LoadOptions = {}): Promise<Load> {
    const load = new Load(url, options)
    const { workers, submitters } = load.#options
    // Workers first: they make the types known.
    await Promise.all(Array.from({ length: workers }, () => load.add('work')))
    await Promise.all(Array.from({ length: submitters }, () => load.add('submit')))
    return load
  }

  private constructor(url: string, options: LoadOptions) {
    this.#url = url
    // Other versions have no named limits.
    const named = options.source ? {} : NAMED
    const usual = { limits: LIMITS, named, workers: 2, submitters: 1, rate: 400, source: () => SOURCE, env: {} }
    this.#options = { ...usual, ...options }
  }

  async add(role: Member['role']): Promise<Member> {
    const index = this.members.length
    const log = join(this.#folder, `${role}-${index}.log`)
    const { limits, named, rate, source, env } = this.#options
    const input: LoadInput = {
      role,
      source: source(index),
      url: this.#url,
      log,
      limits,
      named,
      leaseMs: LEASE_MS,
      rate,
    }
    const args = [join(import.meta.dirname, 'load-process.ts'), JSON.stringify(input)]
    const child = endAtExit(
      spawn(process.execPath, args, {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
        env: { ...process.env, ...env },
      }),
    )
    const member = { role, child, log, lines: [], bytes: 0 }
    this.members.push(member)
    const ended = once(child, 'exit').then(([code]) =>
      Promise.reject(new Error(`a ${role} process ended with ${code}`)),
    )
    await Promise.race([once(child, 'message'), ended])
    ended.catch(() => undefined) // From now on a test may end it.
    return member
  }

  async kill(member: Member): Promise<void> {
    member.child.kill('SIGKILL')
    if (member.child.signalCode === null && member.child.exitCode === null) await once(member.child, 'exit')
  }

  /** What was written down so far, oldest first. */
  lines(): Line[] {
    return this.#read().sort((a, b) => a.at - b.at)
  }

  count(fits: (line: Line) => boolean): number {
    return this.#read().filter(fits).length
  }

  #read(): Line[] {
    for (const member of this.members) readOn(member)
    return this.members.flatMap(({ lines }) => lines)
  }

  /** Waits until so many more tasks were accepted, and so many more outcomes. */
  async progress(more = 150): Promise<void> {
    const accepted = () => this.count(({ what }) => what === 'accepted')
    const settled = () => this.count((line) => line.what === 'settled' && line.accepted)
    const [a, s] = [accepted(), settled()]
    await this.until(() => accepted() >= a + more && settled() >= s + more, 'the load goes on')
  }

  async until(isSo: () => boolean | Promise<boolean>, what: string): Promise<void> {
    const since = performance.now()
    while (!(await isSo())) {
      if (performance.now() - since > STUCK_MS) throw new Error(`waited ${STUCK_MS / 1_000} s in vain: ${what}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  /**
   * Stops the submitters, lets the workers finish all tasks, and returns the history.
   * @param directUrl the same store over a network that works
   */
  async finish(directUrl = this.#url): Promise<History & { counts: Record<string, number> }> {
    await this.end('submit')
    const queue = await openQueue(directUrl, { eventsMax: 1e9, leaseMs: LEASE_MS })
    try {
      const open = async () => {
        const { counts } = await queue.stats()
        return counts.pending + counts.processing
      }
      for (let left = Number.POSITIVE_INFINITY; left > 0; ) {
        const before = left
        const fewerAreOpen = async () => {
          left = await open()
          return left < before
        }
        await this.until(fewerAreOpen, 'more tasks are finished')
      }
      await this.end('work')
      const limits = Object.entries(this.#options.limits).filter(([, limit]) => limit !== null)
      const history = {
        events: await allEvents(queue),
        lines: this.lines(),
        limits: Object.fromEntries(limits) as Record<string, number>,
        ...namedOf(this.#options.named, this.lines()),
      }
      await expectNoneHeld(queue, history.usesOf)
      return { ...history, counts: countsOf(history) }
    } finally {
      await queue.close()
    }
  }

  /** Stops the submitters or the workers, as a deploy does. */
  async end(role: Member['role']): Promise<void> {
    const ending = this.members.filter(({ child }) => child.exitCode === null && child.signalCode === null)
    await Promise.all(
      ending
        .filter((member) => member.role === role)
        .map(async ({ child }) => {
          const ended = once(child, 'exit')
          child.send('stop')
          await ended
        }),
    )
  }

  /** Ends everything at once, after a failed test too. */
  async stop(): Promise<void> {
    await Promise.all(this.members.map((member) => this.kill(member)))
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

function namedOf(named: Required<LoadOptions>['named'], lines: readonly Line[]) {
  const namedLimits = Object.fromEntries(Object.entries(named).map(([name, { max }]) => [name, { max, rate: null }]))
  const usesOf = new Map<string, Uses>()
  for (const line of lines) if (line.what === 'accepted' && line.uses) usesOf.set(line.id, line.uses)
  return { namedLimits, usesOf }
}

/** When nothing runs any more, no unit of a named limit is in use. */
async function expectNoneHeld(queue: Queue, usesOf: ReadonlyMap<string, Uses>): Promise<void> {
  const names = [...new Set([...usesOf.values()].flatMap((uses) => Object.keys(uses)))]
  const limits = names.length === 0 ? [] : await queue.limits({ names })
  expect(limits.map(({ name, inUse }) => `${name} ${inUse}`)).toEqual(names.map((name) => `${name} 0`))
}

/** The checker's verdict, with the figures of the run for the log. */
export function expectKept(
  scenario: string,
  history: History & { counts: Record<string, number> },
  faults: number,
): void {
  const violations = check(history)
  console.info(`${scenario}: ${JSON.stringify({ faults, ...history.counts, violations: violations.length })}`)
  expect(summaryOf(violations)).toEqual([])
  expect(history.counts.finished).toBeGreaterThan(100)
  // Handlers that all fail would not show that results are kept.
  expect(history.counts.succeeded! / history.counts.finished!).toBeGreaterThan(0.5)
}

/** Calls it at least once, and in the long form again and again. */
export async function repeatedly(fault: () => Promise<unknown>): Promise<number> {
  const until = performance.now() + FAULT_SECONDS * 1_000
  let times = 0
  do {
    await fault()
    times += 1
  } while (performance.now() < until)
  return times
}

function countsOf({ events, lines }: History): Record<string, number> {
  const of = (fits: (line: Line) => boolean) => lines.filter(fits).length
  const finals = events.filter(({ status }) => !['pending', 'processing'].includes(status))
  return {
    accepted: of(({ what }) => what === 'accepted'),
    refused: of(({ what }) => what === 'refused'),
    finished: new Set(finals.map(({ taskId }) => taskId)).size,
    succeeded: finals.filter(({ status }) => status === 'success').length,
    leases: events.filter(({ status, kind }) => kind === 'status' && status === 'processing').length,
    lostLeases: of((line) => line.what === 'settled' && !line.accepted && line.status === null),
  }
}

function summaryOf(violations: Violation[]): string[] {
  return violations.slice(0, 10).map(({ rule, detail }) => `${rule}: ${detail}`)
}

/** Reads only the new lines: the tests ask many times a second. The last line may not be complete yet. */
function readOn(member: Member): void {
  if (!existsSync(member.log)) return
  const file = openSync(member.log, 'r')
  try {
    const more = Buffer.alloc(fstatSync(file).size - member.bytes)
    readSync(file, more, 0, more.length, member.bytes)
    const end = more.lastIndexOf('\n') + 1
    member.bytes += end
    for (const line of more.toString('utf8', 0, end).split('\n')) if (line) member.lines.push(JSON.parse(line) as Line)
  } finally {
    closeSync(file)
  }
}
