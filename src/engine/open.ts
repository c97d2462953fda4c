import { XQueueError } from '../task/errors.ts'
import { ENGINE_DEFAULTS, type Engine, type EngineOptions } from './engine.ts'
import { isState } from './state.ts'

/**
 * Opens the engine that a URL names; the only file that knows which engines exist.
 *
 * `sqlite:./xqueue.db` is a file, `sqlite::memory:` a store that lives as long as the process; `redis://`,
 * `redis+cluster://` and `redis+sentinel://` (with `rediss` for TLS) are shared by any number of machines;
 * `kafka://broker?state=redis://…` keeps a log in Kafka beside the state in Redis.
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
    case 'kafka': {
      const [{ parseKafkaUrl }, { KafkaEngine }] = await Promise.all([
        import('./kafka/kafka-url.ts'),
        import('./kafka/kafka-engine.ts'),
      ])
      const place = parseKafkaUrl(url)
      const state = await openEngine(place.state, { ...options, isState: true })
      if (isState(state)) return KafkaEngine.open(place, { ...ENGINE_DEFAULTS, ...options }, state)
      await state.close()
      throw new XQueueError('engine_unusable', 'only Redis can hold the state for Kafka: write state=redis://host')
    }
    default:
      throw new XQueueError(
        'engine_unusable',
        // The rest of the URL is not shown: it may contain a password.
        `no engine for ${/^[a-z+]{1,20}$/.test(scheme) ? `${scheme}:` : 'that URL'}: there are sqlite:./file.db, ` +
          'sqlite::memory:, redis://host:port and ' +
          'kafka://broker:port?state=redis://host:port',
      )
  }
}
