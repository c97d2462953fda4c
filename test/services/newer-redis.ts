import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './xqueue.ts'

/** Servers of a newer Debian that tests run on beside the system's own: `XQUEUE_TEST_REDIS` chooses one. */
export const NEWER = { 'redis-8': 'redis-server', 'valkey-8': 'valkey-server' } as const
export type Newer = keyof typeof NEWER

const RELEASE = 'trixie'
const KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg'

/**
 * The program of a server of Debian 13, unpacked beside the system once, with its own loader and libraries. The
 * system's lists of packages stay as they are.
 */
export function newerRedis(name: Newer): string {
  const folder = join(root, '.cache', `debian-${RELEASE}`)
  if (!existsSync(folder)) fetchInto(folder)
  return join(folder, name)
}

function fetchInto(folder: string): void {
  console.error(`fetching Redis 8 and Valkey 8 of Debian 13 (${RELEASE}), about 20 MB, once`)
  mkdirSync(join(root, '.cache'), { recursive: true })
  const part = mkdtempSync(`${folder}-`)
  try {
    for (const one of ['etc', 'lists/partial', 'cache/archives/partial', 'root']) {
      mkdirSync(join(part, one), { recursive: true })
    }
    const sources = join(part, 'etc/sources.list')
    writeFileSync(sources, `deb [signed-by=${KEYS}] http://deb.debian.org/debian ${RELEASE} main\n`)
    writeFileSync(join(part, 'status'), '')
    const settings = {
      'Dir::Etc::SourceList': sources,
      'Dir::Etc::SourceParts': '/dev/null',
      'Dir::State::Lists': join(part, 'lists'),
      'Dir::State::status': join(part, 'status'),
      'Dir::Cache': join(part, 'cache'),
      'Debug::NoLocking': '1',
      'APT::Sandbox::User': 'root',
    }
    const options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`])
    const aptGet = (...args: string[]) =>
      execFileSync('apt-get', [...options, '-qq', ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
    aptGet('update')
    aptGet('install', '--download-only', '-y', '--no-install-recommends', ...Object.values(NEWER))
    const archives = join(part, 'cache/archives')
    for (const file of readdirSync(archives).filter((one) => one.endsWith('.deb'))) {
      execFileSync('dpkg-deb', ['-x', join(archives, file), join(part, 'root')])
    }
    for (const name of Object.keys(NEWER) as Newer[]) writeProgram(part, folder, name)
    for (const one of ['lists', 'cache', 'etc', 'status']) rmSync(join(part, one), { recursive: true })
    renameSync(part, folder)
  } catch (error) {
    rmSync(part, { recursive: true, force: true })
    if (!existsSync(folder)) throw error
  }
}

/** Runs a server with the libraries that were made for it: the system's may be older. */
function writeProgram(part: string, folder: string, name: Newer): void {
  const triplet = readdirSync(join(part, 'root/usr/lib')).find((one) => one.endsWith('-linux-gnu'))!
  const libraries = join(folder, 'root/usr/lib', triplet)
  const loader = readdirSync(join(part, 'root/usr/lib', triplet)).find((one) => /^ld-linux.*\.so/.test(one))!
  const program = join(folder, 'root/usr/bin', NEWER[name])
  const command = `exec ${join(libraries, loader)} --library-path ${libraries} ${program} "$@"`
  writeFileSync(join(part, name), `#!/bin/sh\n${command}\n`)
  chmodSync(join(part, name), 0o755)
}
