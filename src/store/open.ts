import { XQueueError } from '../task/errors.ts'
import { isState, type ReadNamed, type State } from './state.ts'
import { STORE_DEFAULTS, type Store, type StoreOptions } from './store.ts'

/**
 * Opens the store that a URL names; the only file that knows which stores exist.
 *
 * `sqlite:./xqueue.db` is a file, `sqlite::memory:` a store that lives as long as the process; `redis://`,
 * `redis+cluster://` and `redis+sentinel://` (with `rediss` for TLS) are shared by any number of machines;
 * `kafka://broker?state=redis://…` keeps a log in Kafka beside the state in Redis.
 *
 * @param readNamed returns the function by which Kafka's relay reads the outbox of its state
 * @throws XQueueError `engine_unusable` when the URL names no store, or the store is locked, read-only, corrupt or
 *   made by a newer version.
 */
export async function openStore(
  url: string,
  options: Partial<StoreOptions>,
  readNamed: (state: State) => ReadNamed,
): Promise<Store> {
  const scheme = url.slice(0, url.indexOf(':'))
  switch (scheme) {
    case 'sqlite': {
      const { SqliteStore } = await import('./sqlite/sqlite-store.ts')
      return SqliteStore.open(url, { ...STORE_DEFAULTS, ...options })
    }
    case 'redis':
    case 'rediss':
    case 'redis+cluster':
    case 'rediss+cluster':
    case 'redis+sentinel':
    case 'rediss+sentinel': {
      const { RedisStore } = await import('./redis/redis-store.ts')
      return RedisStore.open(url, { ...STORE_DEFAULTS, ...options })
    }
    case 'kafka': {
      const [{ parseKafkaUrl }, { KafkaStore }] = await Promise.all([
        import('./kafka/client/kafka-url.ts'),
        import('./kafka/kafka-store.ts'),
      ])
      const place = parseKafkaUrl(url)
      const state = await openStore(place.state, { ...options, isState: true }, readNamed)
      if (isState(state)) return KafkaStore.open(place, { ...STORE_DEFAULTS, ...options }, state, readNamed(state))
      await state.close()
      throw new XQueueError('engine_unusable', 'only Redis can hold the state for Kafka: write state=redis://host')
    }
    default:
      throw new XQueueError(
        'engine_unusable',
        // The rest of the URL is not shown: it may contain a password.
        `no engine for ${/^[a-z+]{1,20}$/.test(scheme) ? `${scheme}:// URLs` : 'that URL'}: ` +
          'there are sqlite:./file.db, sqlite::memory:, redis://host:port and ' +
          'kafka://broker:port?state=redis://host:port',
      )
  }
}
