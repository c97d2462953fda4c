import { XQueueError } from '../task/errors.ts'
import { ENGINE_DEFAULTS, type Engine, type EngineOptions } from './engine.ts'

/**
 * Opens the engine that a URL names; the only place that knows which engines there are.
 *
 * `sqlite:./xqueue.db` is a file, `sqlite::memory:` a store that lives as long as the process; `redis://`,
 * `redis+cluster://` and `redis+sentinel://` (with `rediss` for TLS) are shared by any number of machines.
 *
 * @throws XQueueError `engine_unusable` when the URL names no engine, or the store is locked, read-only, corrupt or
 *   made by a newer version.
 */
export async function openEngine(url: string, options: Partial<EngineOptions> = {}): Promise<Engine> {
  const scheme = url.slice(0, url.indexOf(':'))
  switch (scheme) {
    case 'sqlite': {
      const { SqliteEngine } = await import('./sqlite/sqlite-engine.ts')
      return SqliteEngine.open(url, { ...ENGINE_DEFAULTS, ...options })
    }
    case 'redis':
    case 'rediss':
    case 'redis+cluster':
    case 'rediss+cluster':
    case 'redis+sentinel':
    case 'rediss+sentinel': {
      const { RedisEngine } = await import('./redis/redis-engine.ts')
      return RedisEngine.open(url, { ...ENGINE_DEFAULTS, ...options })
    }
    default:
      throw new XQueueError(
        'engine_unusable',
        `no engine for "${url.slice(0, 40)}": there are sqlite:./file.db, sqlite::memory: and redis://host:port`,
      )
  }
}
