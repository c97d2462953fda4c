import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { firstPackage, unpacked } from '../test/fixtures/debian.ts'
import { endAtExit, removeAtExit } from '../test/fixtures/processes.ts'
import { freePort, stop, until } from './servers.ts'

const VERSIONS = ['18', '17', '16', '15']
const INSTALLED = '/usr/lib/postgresql'

export interface Postgres {
  pid: number
  version: string
  /** A new, empty database. */
  create(): Promise<string>
  stop(): Promise<void>
}

/**
 * A PostgreSQL of the bench's own with the settings it comes with: it syncs a commit to disk before it answers.
 * @throws Error where there is none, and Debian's package cannot be had
 */
export async function startPostgres(): Promise<Postgres> {
  const { bin, env } = programs()
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-bench-postgres-')))
  // PostgreSQL refuses to run as root.
  const user = process.getuid?.() === 0 ? { uid: idOf('-u'), gid: idOf('-g') } : {}
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid)
  chmodSync(folder, 0o700)
  const data = join(folder, 'data')
  const init = ['-D', data, '-U', 'postgres', '-A', 'trust', '--locale=C', '-E', 'UTF8']
  execFileSync(join(bin, 'initdb'), init, { ...user, env, cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] })
  const port = await freePort()
  const args = ['-D', data, '-p', String(port), '-k', folder, '-c', 'listen_addresses=127.0.0.1']
  const stdio: ['ignore', 'ignore', 'pipe'] = ['ignore', 'ignore', 'pipe']
  const server = endAtExit(spawn(join(bin, 'postgres'), args, { ...user, env, cwd: folder, stdio }))
  await until(server, /ready to accept connections/)
  const { Client } = (await import('pg')).default
  const admin = new Client({ connectionString: `postgres://postgres@127.0.0.1:${port}/postgres` })
  await admin.connect()
  let [name, created] = ['', 0]
  const drop = () => (name ? admin.query(`drop database ${name} with (force)`) : null)
  return {
    pid: server.pid!,
    version: /\d+/.exec((await admin.query('show server_version')).rows[0].server_version)![0],
    create: async () => {
      await drop()
      created += 1
      name = `bench${created}`
      await admin.query(`create database ${name}`)
      // What the last database left behind is no work of the next contender.
      await admin.query('checkpoint')
      return `postgres://postgres@127.0.0.1:${port}/${name}`
    },
    stop: async () => {
      await admin.end()
      await stop(server)
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

function idOf(kind: '-u' | '-g'): number {
  return Number(execFileSync('id', [kind, 'nobody'], { encoding: 'utf8' }))
}

/** The newest of the system, or Debian's packages unpacked beside it. */
function programs(): { bin: string; env: NodeJS.ProcessEnv } {
  const env = { ...process.env, TZ: 'UTC' }
  const newest = existsSync(INSTALLED)
    ? readdirSync(INSTALLED)
        .filter((version) => existsSync(join(INSTALLED, version, 'bin/initdb')))
        .sort((a, b) => Number(b) - Number(a))[0]
    : undefined
  if (newest) return { bin: join(INSTALLED, newest, 'bin'), env }
  const name = firstPackage(...VERSIONS.map((version) => `postgresql-${version}`))
  const [server, libraries] = [unpacked(name), join(unpacked('libpq5'), 'usr/lib')]
  const triplet = readdirSync(libraries).find((one) => one.endsWith('-linux-gnu'))!
  const version = name.split('-')[1]!
  return {
    bin: join(server, INSTALLED, version, 'bin'),
    env: { ...env, LD_LIBRARY_PATH: join(libraries, triplet) },
  }
}
