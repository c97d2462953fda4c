/** The figures of a run, or of many. */
export interface Figures {
  seeds: number
  /** Timers that were due, each followed by all that it set off. */
  steps: number
  tasks: number
  leases: number
  workers: number
  refused: number
  answersLost: number
  late: number
  cutOff: number
  deaths: number
  clockSteps: number
}

export function noFigures(): Figures {
  return {
    seeds: 0,
    steps: 0,
    tasks: 0,
    leases: 0,
    workers: 0,
    refused: 0,
    answersLost: 0,
    late: 0,
    cutOff: 0,
    deaths: 0,
    clockSteps: 0,
  }
}

export function add(sum: Figures, more: Figures): void {
  for (const name of Object.keys(sum) as (keyof Figures)[]) sum[name] += more[name]
}

export function faultsOf({ refused, answersLost, late, cutOff, deaths, clockSteps }: Figures): number {
  return refused + answersLost + late + cutOff + deaths + clockSteps
}
