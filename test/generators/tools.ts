import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { pathWithNewGo } from '../fixtures/go.ts'

const CACHE = join(import.meta.dirname, '../../.cache')
export const here = import.meta.dirname
/** Two cores are enough to share with other tests, and little memory. */
const QUIET = { MAVEN_OPTS: '-Xmx512m', GOFLAGS: '-mod=mod', NO_COLOR: '1' }

const PATH = pathWithNewGo()

/** Runs a program to its end; the error has its output if it fails. */
export async function run(folder: string, command: string, ...args: string[]): Promise<string> {
  const options = { cwd: folder, env: { ...process.env, ...QUIET, PATH }, maxBuffer: 64 * 1024 * 1024 }
  try {
    const { stdout } = await promisify(execFile)(command, args, options)
    return stdout
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string }
    throw new Error(`${command} ${args.join(' ')}: ${(error as Error).message}\n${stdout}\n${stderr}`.slice(0, 20_000))
  }
}

/** The packages of npm that npm/package-lock.json names, in a folder of the cache. */
export function npmTools(): string {
  const lock = join(here, 'npm/package-lock.json')
  return cached('generators-npm', lock, (folder) => {
    for (const name of ['package.json', 'package-lock.json']) cpSync(join(here, 'npm', name), join(folder, name))
    install('npm', 'ci', '--prefix', folder, '--no-audit', '--no-fund', '--ignore-scripts')
  })
}

/** openapi-generator, and what its client for Java needs, from Maven Central. */
export function jars(): string {
  const pom = join(here, 'java/pom.xml')
  return cached('generators-jars', pom, (folder) => {
    const repository = mkdtempSync(`${folder}-repository-`)
    const goal = ['dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${folder}`]
    install('mvn', '-B', '-q', `-Dmaven.repo.local=${repository}`, '-f', pom, ...goal)
    rmSync(repository, { recursive: true, force: true })
  })
}

/** A folder of the cache that is complete or missing; another one when `source` changes. */
function cached(name: string, source: string, fill: (folder: string) => void): string {
  const hash = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 8)
  const folder = join(CACHE, `${name}-${hash}`)
  if (existsSync(folder)) return folder
  console.log(`installing ${name} for the tests`)
  mkdirSync(CACHE, { recursive: true })
  const part = mkdtempSync(`${folder}-`)
  fill(part)
  renameSync(part, folder)
  return folder
}

function install(command: string, ...args: string[]): void {
  const { status } = spawnSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  if (status !== 0) throw new Error(`NOT TESTED: ${command} ${args.join(' ')} ended with ${status}`)
}
