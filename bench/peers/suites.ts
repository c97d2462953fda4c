import { quantile } from '../report.ts'
import { root } from '../servers.ts'
import { earlier, PEERS, type Peer } from './catalog.ts'
import type { Program } from './programs.ts'
import { type Figure, measure, paced } from './run.ts'
import { Stores } from './stores.ts'

export interface Settings {
  rounds: number
  /** Tasks of a run of a fast contender. */
  tasks: number
  /** Seconds of a run of the open loop. */
  seconds: number
  /** Ids of the contenders; all if it is empty. */
  only: readonly string[]
  isSmoke: boolean
  /** A checkout of an earlier version, which runs beside this one. */
  before?: string | undefined
}

/** Figures of one suite: of each contender, and of each measure of it, all rounds. */
export interface Results {
  settings: { rounds: number; tasks: number }
  figures: Record<string, Record<string, Figure[]>>
  /** Of the open loop: over all rounds, in µs. */
  latencies: Record<string, Record<string, Latency>>
  /** Why a contender is missing. */
  missing: Record<string, string>
  versions: Record<string, string>
}

export interface Latency {
  samples: number
  p50: number
  p99: number
  p999: number
}

interface Measure {
  id: string
  run: (program: Program, pids: readonly number[], tasks: number) => Promise<Figure>
}

/** What a smoke test runs: each role of each program once. */
const SMOKE = ['submit-100', 'work-10', '10 ms', '100/s']
const BYTES = 100
/** Programs that compile while they run reach their rate only after some 10,000 tasks. */
const warmupOf = (count: number) => Math.min(20_000, count)
const submits = (callers: number, share: number): Measure['run'] => {
  return (program, pids, tasks) => {
    const count = Math.ceil(tasks * share)
    return measure(program, 'submit', [callers, warmupOf(count), count, BYTES], pids)
  }
}
const works = (concurrency: number, share: number, bytes = BYTES, handlerMs = 0): Measure['run'] => {
  return (program, pids, tasks) => {
    const count = Math.ceil(tasks * share)
    return measure(program, 'work', [concurrency, warmupOf(count), count, bytes, handlerMs], pids)
  }
}

/** Submissions one by one, and processing: the handler does nothing, the payload has 100 bytes. */
export const RATES: readonly Measure[] = [
  { id: 'submit-1', run: submits(1, 0.2) },
  { id: 'submit-100', run: submits(100, 1) },
  { id: 'work-1', run: works(1, 0.25) },
  { id: 'work-10', run: works(10, 1) },
  { id: 'work-100', run: works(100, 1) },
]

/** Handlers that take a time, and larger payloads, at concurrency 100. */
export const SHAPES: readonly Measure[] = [
  { id: '0 ms', run: works(100, 1) },
  { id: '1 ms', run: works(100, 1, BYTES, 1) },
  { id: '10 ms', run: works(100, 0.75, BYTES, 10) },
  { id: '50 ms', run: works(100, 0.2, BYTES, 50) },
  { id: '10 kB', run: works(100, 0.25, 10_000) },
  { id: '200 kB', run: works(100, 0.05, 200_000) },
]

export const RATES_PER_SECOND = [10, 100, 1_000] as const
/** A slow rate needs longer for as many tasks. */
const SECONDS_FACTOR = { 10: 4, 100: 2, 1000: 1 } as const
const WARMUP_SECONDS = 1

function latencies(seconds: number): Measure[] {
  return RATES_PER_SECOND.map((perSecond) => ({
    id: `${perSecond}/s`,
    run: (program, pids) => {
      const warmup = Math.max(10, perSecond * WARMUP_SECONDS)
      return paced(program, perSecond, warmup, Math.ceil(perSecond * seconds * SECONDS_FACTOR[perSecond]), pids)
    },
  }))
}

export const rates = (settings: Settings) => suite(settings, RATES, () => true)
export const shapes = (settings: Settings) => suite(settings, SHAPES, ({ hasShapes }) => hasShapes === true)
export const latency = (settings: Settings) =>
  suite(settings, latencies(settings.seconds), ({ hasLatency }) => hasLatency === true)

/** Whether each task of each run was handled, and no contender is missing. */
export function isExact({ figures, missing }: Results): boolean {
  const all = Object.values(figures).flatMap((measures) => Object.values(measures).flat())
  return Object.keys(missing).length === 0 && all.every(({ lost, held }) => lost === 0 && held === 0)
}

/** All contenders one after the other with each measure, again and again: what the machine does meanwhile hits all. */
async function suite(
  { rounds, tasks, only, isSmoke, before }: Settings,
  measures: readonly Measure[],
  isMeant: (peer: Peer) => boolean,
): Promise<Results> {
  const all = [...PEERS, ...(before === undefined ? [] : earlier(before))]
  const asked = all.filter((peer) => (only.length > 0 ? only.includes(peer.id) : true) && isMeant(peer))
  const stores = new Stores()
  const results: Results = { settings: { rounds, tasks }, figures: {}, latencies: {}, missing: {}, versions: {} }
  const programs = new Map<Peer, Program>()
  for (const peer of asked) {
    try {
      programs.set(peer, peer.program(peer.checkout ?? root))
    } catch (error) {
      leave(peer, error)
    }
  }
  function leave(peer: Peer, error: unknown) {
    results.missing[peer.id] = error instanceof Error ? error.message : String(error)
    console.error(`${peer.id} is not measured: ${results.missing[peer.id]}`)
    programs.delete(peer)
  }
  try {
    for (let round = 0; round < rounds; round++) {
      for (const { id, run } of measures.filter(({ id }) => !isSmoke || SMOKE.includes(id))) {
        for (const [peer, program] of programs) {
          const count = Math.ceil(tasks * (isSmoke ? 1 : (peer.share ?? 1)))
          try {
            const figure = await stores.withEmpty(peer, program, (placed, pids) => run(placed, pids, count))
            say(round, id, peer, figure)
            const measured = results.figures[peer.id] ?? {}
            results.figures[peer.id] = { ...measured, [id]: [...(measured[id] ?? []), figure] }
          } catch (error) {
            leave(peer, error)
          }
        }
      }
    }
    results.versions = await stores.versions()
    collectDelays(results)
  } finally {
    await stores.close()
  }
  return results
}

/** Quantiles instead of the delay of each task, of which there are very many. */
function collectDelays({ figures, latencies }: Results) {
  for (const [peer, measures] of Object.entries(figures)) {
    for (const [measure, rounds] of Object.entries(measures)) {
      const delays = rounds.flatMap((figure) => figure.delays.splice(0))
      if (delays.length === 0) continue
      const [p50, p99, p999] = [0.5, 0.99, 0.999].map((share) => quantile(delays, share)) as [number, number, number]
      latencies[peer] = { ...latencies[peer], [measure]: { samples: delays.length, p50, p99, p999 } }
    }
  }
}

function say(round: number, measure: string, { id }: Peer, { perSecond, cpuUs, lost, twice, held }: Figure) {
  const wrong = lost + twice + held > 0 ? `, LOST ${lost}, TWICE ${twice}, STILL HELD ${held}` : ''
  const figures = `${Math.round(perSecond)} tasks/s, ${cpuUs.toFixed(1)} µs${wrong}`
  console.error(`round ${round + 1}, ${measure}, ${id}: ${figures}`)
}
