import { afterAll, beforeAll } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { makeDocumentedUser } from '../fixtures/acl.ts'
import { redisCli } from '../fixtures/redis.ts'
import { startTlsRedis, type TlsRedis } from '../fixtures/redis-tls.ts'
import { queueContract } from './contract.ts'

const RANDOM_RUNS = 3
const PASSWORD = 'p@ss:w/rd?'

let server: TlsRedis
beforeAll(async () => {
  server = await startTlsRedis()
  makeDocumentedUser(server.redis.port, 'tenant', PASSWORD)
})
afterAll(() => server?.redis.stop())

queueContract(
  'Redis with TLS, as the user of the documentation, with a prefix and a database',
  async (options) => {
    const login = `xqueue:${encodeURIComponent(PASSWORD)}`
    const url = `rediss://${login}@127.0.0.1:${server.tlsPort}/5?prefix=tenant&${server.parameters}`
    const queue = await openQueue(url, options)
    const cleanup = async () => {
      await queue.close()
      redisCli(server.redis.port, 'FLUSHALL')
    }
    return { queue, second: () => openQueue(url, options), cleanup }
  },
  { part: 'connection', randomRuns: RANDOM_RUNS },
)
