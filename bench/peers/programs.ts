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

const PROGRAM = join(root, 'bench/peers/program.ts')
const CLIENTS = join(root, 'bench/clients')
const PACKAGES = join(root, 'bench/node_modules')

export const node = (contender: string, where: string): Program => {
  return { command: [process.execPath, PROGRAM, contender, where], env: {} }
}

/** Bun of npm; where install scripts are off, its program is still in the package of the platform. */
export function bun(contender: string, where: string): Program {
  const places = ['bun/bin/bun.exe', '@oven/bun-linux-x64/bin/bun', '@oven/bun-linux-aarch64/bin/bun']
  const program = places.map((place) => join(PACKAGES, place)).find((place) => existsSync(place))
  if (!program) throw new Error('Bun has no program for this machine on npm')
  return { command: [program, PROGRAM, contender, where], env: {} }
}

export function go(source: string): Program {
  const folder = join(PACKAGES, '.cache/go')
  mkdirSync(folder, { recursive: true })
  const [binary, env] = [join(folder, source), { ...process.env, PATH: pathWithNewGo(), CGO_ENABLED: '0' }]
  execFileSync('go', ['build', '-o', binary, '.'], { cwd: join(CLIENTS, source), env, stdio: 'inherit' })
  return { command: [binary], env: { REDIS_PORT: 'REDIS', DATABASE_URL: 'POSTGRES' } }
}

export function python(script: string, ...packages: string[]): Program {
  const programs = packages.length > 0 ? programsOf(...packages) : ''
  if (programs === null) throw new Error(`${packages.join(', ')} cannot be installed`)
  const env = { PYTHONPATH: join(root, 'clients/python'), REDIS_PORT: 'REDIS' }
  return { command: [join(programs, 'python3'), join(CLIENTS, script)], env }
}
