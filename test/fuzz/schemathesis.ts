import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'

/** A series in which each release finds what the one before found: newer ones are taken within it only. */
const VERSION = '4.32.*'
const FOLDER = join(import.meta.dirname, '../../.cache', `schemathesis-${VERSION.replace(/\W+$/, '')}`)
const PROGRAM = join(FOLDER, 'bin/schemathesis')

/** Where it is, installed from PyPI the first time; null, said loudly, where it cannot be had, and an error in CI. */
export function schemathesis(): string | null {
  if (existsSync(PROGRAM)) return PROGRAM
  console.log('installing schemathesis for the tests')
  mkdirSync(FOLDER, { recursive: true })
  const run = (program: string, ...args: string[]) =>
    spawnSync(program, args, { stdio: ['ignore', 'ignore', 'inherit'], timeout: 240_000 }).status === 0
  const isThere =
    run('python3', '-m', 'venv', FOLDER) &&
    run(join(FOLDER, 'bin/pip'), 'install', '--quiet', '--disable-pip-version-check', `schemathesis==${VERSION}`)
  if (isThere && existsSync(PROGRAM)) return PROGRAM
  const text = 'NOT TESTED: schemathesis cannot be had here. It needs python3 with venv, and pip that reaches PyPI'
  console.error(`\n${'!'.repeat(text.length)}\n${text}\n${'!'.repeat(text.length)}\n`)
  if (process.env.CI) throw new Error(text)
  return null
}
