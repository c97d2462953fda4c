import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis as Admin } from 'ioredis'
import { removeAtExit } from '../../test/fixtures/processes.ts'
import { type Postgres, startPostgres } from '../postgres.ts'
import { type Redis, root, startRedis, startXQueueOf } from '../servers.ts'
import type { Peer } from './catalog.ts'
import type { Program } from './programs.ts'

/** The stores of the comparison, each started when the first contender needs it. */
export class Stores {
  readonly #folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-bench-peers-')))
  #redis: { server: Redis; admin: Admin } | undefined
  #postgres: Promise<Postgres> | undefined

  /** Runs with an empty store: `pids` are the servers whose CPU time counts. */
  async withEmpty<T>(
    peer: Peer,
    program: Program,
    run: (program: Program, pids: readonly number[]) => Promise<T>,
  ): Promise<T> {
    const folder = mkdtempSync(join(this.#folder, 'run-'))
    const places: Record<string, string> = { FILE: join(folder, `${randomUUID()}.db`) }
    const pids: number[] = []
    if (peer.store === 'redis') {
      const { server, admin } = await this.#redisServer()
      await admin.flushall()
      places.REDIS = String(server.port)
      pids.push(server.pid)
    }
    if (peer.store === 'postgres') {
      this.#postgres ??= startPostgres()
      const postgres = await this.#postgres
      places.POSTGRES = await postgres.create()
      pids.push(postgres.pid)
    }
    const placed = (text: string) => text.replace(/FILE|REDIS|POSTGRES/, (name) => places[name] ?? name)
    const command = program.command.map(placed)
    const env = Object.fromEntries(Object.entries(program.env).map(([name, value]) => [name, placed(value)]))
    const engine = peer.store === 'redis' ? `redis://127.0.0.1:${places.REDIS}` : `sqlite:${places.FILE}`
    const server = peer.isOverHttp ? await startXQueueOf(peer.checkout ?? root, engine, '--no-worker') : null
    if (server) {
      env.XQUEUE_SERVER = server.url
      pids.push(server.pid)
    }
    try {
      return await run({ command, env }, pids)
    } finally {
      await server?.stop()
      rmSync(folder, { recursive: true, force: true })
    }
  }

  /** The versions of the servers that have run. */
  async versions(): Promise<Record<string, string>> {
    const versions: Record<string, string> = {}
    if (this.#redis) {
      versions.redis = /redis_version:(\S+)/.exec(await this.#redis.admin.info('server'))![1]!
    }
    const postgres = await this.#postgres?.catch(() => null)
    if (postgres) versions.postgres = postgres.version
    return versions
  }

  async close(): Promise<void> {
    this.#redis?.admin.disconnect()
    await this.#redis?.server.stop()
    const postgres = await this.#postgres?.catch(() => null)
    await postgres?.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async #redisServer() {
    if (this.#redis) return this.#redis
    const server = await startRedis(this.#folder)
    this.#redis = { server, admin: new Admin(server.port) }
    return this.#redis
  }
}
