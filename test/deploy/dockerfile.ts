import { readFileSync } from 'node:fs'

/**
 * One instruction of a Dockerfile, as far as ours uses them; any other is an error, so that none is ignored.
 */
export type Step =
  | { kind: 'COPY'; from: string | null; sources: string[]; target: string }
  | { kind: 'RUN'; command: string }
  | { kind: 'WORKDIR' | 'USER' | 'VOLUME'; value: string }
  | { kind: 'ENV'; values: Record<string, string> }
  | { kind: 'ENTRYPOINT' | 'CMD' | 'HEALTHCHECK'; args: string[] }
  | { kind: 'EXPOSE'; ports: string[] }

export interface Stage {
  base: string
  name: string | null
  steps: Step[]
}

/** Reads the Dockerfile of the image, so that the tests match the build. */
export function readDockerfile(file: string): Stage[] {
  const stages: Stage[] = []
  for (const [kind, rest] of instructions(readFileSync(file, 'utf8'))) {
    if (kind !== 'FROM') {
      stages.at(-1)!.steps.push(stepOf(kind, rest))
      continue
    }
    const [base, , name = null] = rest.replace(/^--platform=\S+ /, '').split(/\s+/)
    stages.push({ base: base!, name, steps: [] })
  }
  return stages
}

function instructions(text: string): [kind: string, rest: string][] {
  const lines = text.replace(/^#.*\n/gm, '').replace(/\\\n\s*/g, '')
  return lines
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)])
}

function stepOf(kind: string, rest: string): Step {
  switch (kind) {
    case 'COPY': {
      const [, from = null, paths] = /^(?:--from=(\S+) )?(.*)$/.exec(rest)!
      const words = paths!.split(/\s+/)
      return { kind, from, sources: words.slice(0, -1), target: words.at(-1)! }
    }
    case 'RUN':
      return { kind, command: rest }
    case 'WORKDIR':
    case 'USER':
    case 'VOLUME':
      return { kind, value: rest }
    case 'ENV':
      return { kind, values: Object.fromEntries(rest.split(/\s+/).map((pair) => pair.split('=', 2))) }
    case 'ENTRYPOINT':
    case 'CMD':
      return { kind, args: JSON.parse(rest) as string[] }
    case 'HEALTHCHECK':
      return { kind, args: JSON.parse(rest.slice(rest.indexOf('['))) as string[] }
    case 'EXPOSE':
      return { kind, ports: rest.split(/\s+/) }
    default:
      throw new Error(`${kind} ${rest}: teach test/deploy/dockerfile.ts what it does`)
  }
}
