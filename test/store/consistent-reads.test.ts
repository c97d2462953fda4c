import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'

let redis: RunningRedis
const folder = temporaryFolder()
beforeAll(async () => {
  redis = await startRedis()
})

it.each([
  ['SQLite', () => `sqlite:${join(folder, 'x.db')}`],
  ['Redis', () => redis.url],
])('%s lists as many holders as tasks in flight while another process starts and ends tasks', async (_, urlOf) => {
  const queue = await openQueue(urlOf())
  await queue.configureType('t', { declared: true })
  const child = spawn(process.execPath, [join(import.meta.dirname, 'consistent-reads-child.ts'), urlOf()], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    await once(child.stdout, 'data')
    const seen = new Set<number>()
    // Until very different numbers were seen, and often.
    for (let reads = 0; reads < 2_000 || seen.size < 5; reads++) {
      const [info] = await queue.types({ names: ['t'], holders: true })
      expect(info!.holders).toHaveLength(info!.processing)
      seen.add(info!.processing)
    }
  } finally {
    child.kill()
    await once(child, 'exit')
    await queue.close()
  }
})
