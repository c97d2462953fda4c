import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openQueue } from '../../src/queue/open.ts'
import { queueContract } from './contract.ts'

queueContract('SQLite in memory', async (options) => {
  const queue = await openQueue('sqlite::memory:', options)
  return { queue, second: () => openQueue(queue.url, options), cleanup: () => queue.close() }
})

queueContract('SQLite on a file', async (options) => {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-'))
  const url = `sqlite:${join(folder, 'x.db')}`
  const queue = await openQueue(url, options)
  const cleanup = async () => {
    await queue.close()
    rmSync(folder, { recursive: true })
  }
  return { queue, second: () => openQueue(url, options), cleanup }
})
