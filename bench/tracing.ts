import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from './library.ts'
import { MEASURE_NAMES } from './measure.ts'
import { type Row, ratioRow } from './report.ts'

const OFF = 'xqueue-untraced'
const ON = [
  ['xqueue-traced', 'all traces'],
  ['xqueue-sampled', 'one in a hundred'],
] as const

/** The embedded engine with tracing on beside the same without an SDK, each measure in a process of its own. */
export async function tracing(rounds: number): Promise<Row[]> {
  return MEASURE_NAMES.flatMap((measure) => {
    const off: number[] = []
    const on = ON.map((): number[] => [])
    for (let round = 0; round < rounds; round++) {
      off.push(fresh(OFF, measure))
      for (const [index, [contender]] of ON.entries()) on[index]!.push(fresh(contender, measure))
    }
    return ON.map(([, what], index) => ratioRow(`${measure}, ${what}`, 'tasks/s', on[index]!, 'tracing off', off))
  })
}

function fresh(contender: string, measure: string): number {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-'))
  const figure = run(contender, join(folder, 'x.db'), measure)
  rmSync(folder, { recursive: true })
  return figure
}
