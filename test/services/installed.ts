import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

/** The programs that the tests drive, and the Debian packages that bring them. */
const PROGRAMS = {
  mosquitto: 'mosquitto',
  mosquitto_sub: 'mosquitto-clients',
  chromium: 'chromium',
  openssl: 'openssl',
  java: 'openjdk-17-jre-headless',
  mvn: 'maven',
  kcat: 'kcat',
  faketime: 'faketime',
  // Debian's own Python brings the module; another one in the path would not have it.
  '/usr/lib/python3/dist-packages/confluent_kafka': 'python3-confluent-kafka',
  python3: 'python3',
  go: 'golang-go',
  curl: 'curl',
  jq: 'jq',
} as const
type Program = keyof typeof PROGRAMS

/** Where a program is, or null. */
export function pathOf(program: Program): string | null {
  if (program.startsWith('/')) return existsSync(program) ? program : null
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/bin', '/usr/sbin', '/usr/local/bin']
  return folders.map((folder) => `${folder}/${program}`).find((path) => existsSync(path)) ?? null
}

/** Before all tests, once: installs what is missing, where that can be done; else says so, and fails in CI. */
export default function installAll(): void {
  const missing = (Object.keys(PROGRAMS) as Program[]).filter((program) => pathOf(program) === null)
  if (missing.length === 0) return
  const packages = [...new Set(missing.map((program) => PROGRAMS[program]))]
  if (process.getuid?.() === 0 && existsSync('/usr/bin/apt-get')) {
    console.log(`installing ${packages.join(', ')} for the tests`)
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    const run = (...args: string[]) =>
      spawnSync('apt-get', args, { stdio: ['ignore', 'ignore', 'inherit'], env }).status
    const install = () => run('install', '-y', '--no-install-recommends', ...packages)
    if (install() !== 0) {
      run('update')
      install()
    }
  }
  const still = missing.filter((program) => pathOf(program) === null)
  if (still.length === 0) return
  const text = `NOT TESTED: ${still.join(', ')} cannot be had here. As root on Debian: apt-get install ${packages.join(' ')}`
  console.error(`\n${'!'.repeat(text.length)}\n${text}\n${'!'.repeat(text.length)}\n`)
  if (process.env.CI) throw new Error(text)
}
