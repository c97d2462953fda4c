import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const CACHE = join(import.meta.dirname, '../../.cache')

/**
 * The folder of the programs of these packages of PyPI, in an environment of their own that is made the first time.
 * Null, said loudly, where it cannot be had, and an error in CI.
 *
 * @param packages with their versions, as in `httpx-sse==0.4.*`
 */
export function python(...packages: string[]): string | null {
  const names = packages.map((name) => name.split('==')[0]).join('-')
  const folder = join(CACHE, `${names}-${createHash('sha256').update(packages.join()).digest('hex').slice(0, 8)}`)
  const programs = join(folder, 'bin')
  const isWhole = join(folder, 'is-whole')
  if (existsSync(isWhole)) return programs
  console.log(`installing ${packages.join(', ')} for the tests`)
  mkdirSync(folder, { recursive: true })
  const run = (program: string, ...args: string[]) =>
    spawnSync(program, args, { stdio: ['ignore', 'ignore', 'inherit'], timeout: 240_000 }).status === 0
  const pip = ['install', '--quiet', '--disable-pip-version-check', ...packages]
  if (run('python3', '-m', 'venv', folder) && run(join(programs, 'pip'), ...pip)) {
    writeFileSync(isWhole, '')
    return programs
  }
  const text = `NOT TESTED: ${names} cannot be had here. It needs python3 with venv, and pip that reaches PyPI`
  console.error(`\n${'!'.repeat(text.length)}\n${text}\n${'!'.repeat(text.length)}\n`)
  if (process.env.CI) throw new Error(text)
  return null
}
