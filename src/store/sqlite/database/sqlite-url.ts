import { randomUUID } from 'node:crypto'
import { XQueueError } from '../../../task/errors.ts'

/** The parsed form of a `sqlite:` URL. */
export interface SqliteUrl {
  path: string
  inMemory: boolean
  synchronous: 'FULL' | 'NORMAL'
  /** Opens the same store again, also from another thread: for memory it names the store that is already open. */
  sameUrl: string
}

/** @throws XQueueError `engine_unusable` that lists the allowed values */
export function parseSqliteUrl(url: string): SqliteUrl {
  const [name = '', query = ''] = url.slice('sqlite:'.length).split('?', 2)
  const search = new URLSearchParams(query)
  const synchronous = (search.get('synchronous') ?? 'full').toUpperCase()
  if (synchronous !== 'FULL' && synchronous !== 'NORMAL') {
    throw new XQueueError('engine_unusable', `sqlite: synchronous=${synchronous}: it must be full or normal`)
  }
  if (name === '')
    throw new XQueueError('engine_unusable', 'the URL sqlite: has no file name: write sqlite:./xqueue.db')
  const unknown = [...search.keys()].filter((key) => key !== 'synchronous')
  if (unknown.length > 0) {
    throw new XQueueError('engine_unusable', `sqlite: unknown parameter ${unknown[0]}: only synchronous=full|normal`)
  }
  // Named memory of SQLite's own file layer: other threads of this process open the same store by its URL.
  if (name === ':memory:') return memory(`/xqueue-${randomUUID()}`)
  if (name.startsWith(MEMORY)) return memory(name.slice(MEMORY.length))
  return { path: name, inMemory: false, synchronous, sameUrl: url }
}

const MEMORY = 'memory:'

function memory(name: string): SqliteUrl {
  return { path: `file:${name}?vfs=memdb`, inMemory: true, synchronous: 'FULL', sameUrl: `sqlite:${MEMORY}${name}` }
}
