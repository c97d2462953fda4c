import { execFile } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { acceptedTask, newTaskId } from '../../src/task/task.ts'
import { add, type Figures, faultsOf, noFigures } from './figures.ts'
import type { Plan } from './plan.ts'
import { simulate } from './simulate.ts'

/** `npm run test:simulate -- --seeds 10000` runs the number for a release. */
const SEEDS = process.env.CI ? 1_500 : 200
/** Each takes a core. */
const PROCESSES = availableParallelism() > 1 ? 2 : 1
const quiet = (plan: Plan): Plan => ({
  ...plan,
  faults: {
    ...plan.faults,
    refused: 0,
    answerLost: 0,
    late: 0,
    cutOff: 0,
    diesAround: 0,
    diesWithin: 0,
    clockSteps: 0,
  },
})

/** Runs so many seeds in a process of their own; a broken rule or a crash is reported with the command to replay it. */
async function run(seed: number, seeds: number): Promise<Figures> {
  const args = [join(import.meta.dirname, 'main.ts'), '--seed', String(seed), '--seeds', String(seeds)]
  const { stdout } = await promisify(execFile)(process.execPath, args)
  return JSON.parse(/^[\d.]+ s: (.*)$/m.exec(stdout)![1]!)
}

/** A store with one operation replaced. */
function having(queue: Queue, verbs: Partial<Queue>): Queue {
  return new Proxy(queue, {
    get(target, name: keyof Queue) {
      const value: unknown = verbs[name] ?? target[name]
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

describe('the simulation', () => {
  it('keeps every rule, whichever step of any process fails', async () => {
    const first = Math.floor(Math.random() * 2 ** 31)
    const share = SEEDS / PROCESSES
    const parts = await Promise.all(Array.from({ length: PROCESSES }, (_, index) => run(first + index * share, share)))
    const sum = noFigures()
    for (const figures of parts) add(sum, figures)
    expect(sum.seeds).toBe(SEEDS)
    console.info(`simulation: ${JSON.stringify({ ...sum, faults: faultsOf(sum) })}`)
    expect(faultsOf(sum)).toBeGreaterThan(SEEDS)
    expect(sum.tasks).toBeGreaterThan(SEEDS)
  }, 900_000)

  it('repeats a run for the same seed, and differs for another one', async () => {
    const traces = []
    for (const seed of [7, 7, 8]) traces.push((await simulate(seed)).trace)
    expect(traces[0]).toBe(traces[1])
    expect(traces[0]).not.toBe(traces[2])
  })

  it('runs thousands of workers in one process', async () => {
    const changed = ({ types: { a }, ...plan }: Plan): Plan => ({
      ...plan,
      types: { a: { ...a!, rate: null } },
      workers: 2_000,
      clients: 2,
      batches: 10,
      batch: 20,
    })
    const { violations, figures } = await simulate(3, { changed })
    expect(violations).toEqual([])
    expect(figures.workers).toBeGreaterThanOrEqual(2_000)
    expect(figures.tasks).toBe(400)
  })

  it('detects a store that refuses a call that took effect', async () => {
    const broken = (queue: Queue) => {
      const turn: Queue['turn'] = async (asked) => {
        const answer = await queue.turn(asked)
        return { ...answer, settled: answer.settled.map(() => ({ accepted: false, status: null })) }
      }
      return having(queue, { turn })
    }
    const { violations } = await simulate(1, { changed: quiet, broken })
    expect(violations.map(({ rule }) => rule)).toContain('fence')
  })

  it('detects a store that starts more than a named limit allows', async () => {
    const broken = (queue: Queue) => {
      const configureLimit: Queue['configureLimit'] = (name) =>
        queue.configureLimit(name, { handler: { max: null, rate: null } })
      return having(queue, { configureLimit })
    }
    const changed = (plan: Plan) => {
      const types = { a: { ...plan.types.a!, maxConcurrency: null, groupConcurrency: null, rate: null } }
      const limits = { x: { max: 1, rate: null } }
      return { ...quiet(plan), types, limits, batch: 20, batches: 3, quick: 0, workers: 3, concurrency: 10 }
    }
    expect((await simulate(1, { changed })).violations).toEqual([])
    const { violations } = await simulate(1, { changed, broken })
    expect(violations.map(({ rule }) => rule)).toContain('over_named_limit')
  })

  it('detects a store that loses an accepted task', async () => {
    const broken = (queue: Queue) => {
      const submit: Queue['submit'] = async (specs) => {
        const [kept] = await queue.submit(specs.slice(0, 1))
        return specs.map((spec, index) =>
          index === 0 ? kept! : { task: acceptedTask(spec, newTaskId(0), 0), existing: false },
        )
      }
      return having(queue, { submit })
    }
    const changed = (plan: Plan) => ({ ...quiet(plan), batch: 3 })
    const { violations } = await simulate(1, { changed, broken })
    expect(violations.map(({ rule }) => rule)).toContain('lost')
  })
})
