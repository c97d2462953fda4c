import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

/**
 * What the tests drive, and the Debian package that provides it. Debian 12 and 13 both have every one of these
 * packages: names of a single release (`openjdk-17-…`) do not belong here.
 */
const PROGRAMS = {
  'redis-server': 'redis-server',
  mosquitto: 'mosquitto',
  mosquitto_sub: 'mosquitto-clients',
  chromium: 'chromium',
  openssl: 'openssl',
  java: 'default-jre-headless',
  javac: 'default-jdk-headless',
  mvn: 'maven',
  kcat: 'kcat',
  faketime: 'faketime',
  python3: 'python3',
  go: 'golang-go',
  git: 'git',
  curl: 'curl',
  jq: 'jq',
  nginx: 'nginx',
} as const
type Program = keyof typeof PROGRAMS

/** What is no program on the path: how to see whether it is there. */
const PARTS: Readonly<Record<string, { package: string; isThere: () => boolean }>> = {
  // Debian's own Python has the module; another Python on the path would not.
  'the Python module confluent_kafka': {
    package: 'python3-confluent-kafka',
    isThere: () => existsSync('/usr/lib/python3/dist-packages/confluent_kafka'),
  },
  'the Python module venv': {
    package: 'python3-venv',
    isThere: () => spawnSync('python3', ['-c', 'import ensurepip, venv']).status === 0,
  },
}

/** Returns the path of a program, or null. */
export function pathOf(program: Program): string | null {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/bin', '/usr/sbin', '/usr/local/bin']
  return folders.map((folder) => `${folder}/${program}`).find((path) => existsSync(path)) ?? null
}

/** Returns what is missing, with the package that provides it. */
function missing(): { name: string; package: string }[] {
  const programs = (Object.keys(PROGRAMS) as Program[])
    .filter((name) => pathOf(name) === null)
    .map((name) => ({ name, package: PROGRAMS[name] }))
  const parts = Object.entries(PARTS).filter(([, { isThere }]) => !isThere())
  return [...programs, ...parts.map(([name, part]) => ({ name, package: part.package }))]
}

/** Installs Debian packages as root; false where that is impossible. One that is missing does not stop the others. */
function install(packages: readonly string[]): boolean {
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return false
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const aptGet = (...args: string[]) =>
    spawnSync('apt-get', args, { stdio: ['ignore', 'ignore', 'inherit'], env }).status === 0
  const add = (...names: string[]) => aptGet('install', '-y', '--no-install-recommends', ...names)
  if (add(...packages)) return true
  aptGet('update')
  if (add(...packages)) return true
  return packages.map((name) => add(name)).every((done) => done)
}

/** Runs before all tests: installs what is missing. Where that is impossible, it says so; with CI=true it fails. */
export default function installAll(): void {
  const absent = missing()
  if (absent.length === 0) return
  const packages = [...new Set(absent.map((each) => each.package))]
  console.log(`installing ${packages.join(', ')} for the tests`)
  install(packages)
  const still = missing()
  if (still.length === 0) return
  const names = still.map(({ name }) => name).join(', ')
  const remedy = `apt-get install ${still.map((each) => each.package).join(' ')}`
  const text = `NOT TESTED: ${names} cannot be installed here. On Debian 12 or 13, as root: ${remedy}`
  console.error(`\n${'!'.repeat(text.length)}\n${text}\n${'!'.repeat(text.length)}\n`)
  if (process.env.CI) throw new Error(text)
}

/** For programs outside of the test runner: installs redis-server if it is missing. @throws Error */
export function installRedis(): void {
  if (pathOf('redis-server') !== null || install([PROGRAMS['redis-server']])) return
  throw new Error('redis-server 7.0 or newer is needed: install it (apt-get install redis-server)')
}
