import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { pathWithNewGo } from '../../test/fixtures/go.ts'
import { python as programsOf } from '../../test/fixtures/python.ts'
import { root } from '../servers.ts'

/** What starts a contender; FILE, REDIS and POSTGRES in it stand for the file, the port and the URL of its store. */
export interface Program {
  command: readonly string[]
  env: Readonly<Record<string, string>>
}

/** How a contender is started from a checkout of XQueue: from this one, or from an earlier one beside it. */
export type Start = (checkout: string) => Program

const PACKAGES = join(root, 'bench/node_modules')
const programOf = (checkout: string) => join(checkout, 'bench/peers/program.ts')
const clientsOf = (checkout: string) => join(checkout, 'bench/clients')

export const node = (contender: string, where: string): Start => {
  return (checkout) => ({ command: [process.execPath, programOf(checkout), contender, where], env: {} })
}

/** Bun of npm; where install scripts are off, its program is still in the package of the platform. */
export const bun = (contender: string, where: string): Start => {
  const places = ['bun/bin/bun.exe', '@oven/bun-linux-x64/bin/bun', '@oven/bun-linux-aarch64/bin/bun']
  return (checkout) => {
    const program = places.map((place) => join(PACKAGES, place)).find((place) => existsSync(place))
    if (!program) throw new Error('Bun has no program for this machine on npm')
    return { command: [program, programOf(checkout), contender, where], env: {} }
  }
}

export const go = (source: string): Start => {
  return (checkout) => {
    const folder = join(checkout, 'bench/node_modules/.cache/go')
    mkdirSync(folder, { recursive: true })
    const [binary, env] = [join(folder, source), { ...process.env, PATH: pathWithNewGo(), CGO_ENABLED: '0' }]
    execFileSync('go', ['build', '-o', binary, '.'], { cwd: join(clientsOf(checkout), source), env, stdio: 'inherit' })
    return { command: [binary], env: { REDIS_PORT: 'REDIS', DATABASE_URL: 'POSTGRES' } }
  }
}

export const python = (script: string, ...packages: string[]): Start => {
  return (checkout) => {
    const programs = packages.length > 0 ? programsOf(...packages) : ''
    if (programs === null) throw new Error(`${packages.join(', ')} cannot be installed`)
    const env = { PYTHONPATH: join(checkout, 'clients/python'), REDIS_PORT: 'REDIS' }
    return { command: [join(programs, 'python3'), join(clientsOf(checkout), script)], env }
  }
}
