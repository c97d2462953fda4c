import { join } from 'node:path'
import { expect, it, vi } from 'vitest'
import { FileWatch } from '../../src/store/sqlite/database/file-watch.ts'
import { completeSpec } from '../../src/task/task.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { openTestQueue } from '../fixtures/server.ts'

it('notices a write at once by the file system, without the check at intervals', async () => {
  const path = join(temporaryFolder(), 'x.db')
  const queue = await openTestQueue(`sqlite:${path}`)
  await queue.configureType('t', { declared: true })
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  closeAfterwards(() => vi.useRealTimers())
  const noticed = Promise.withResolvers<string>()
  const watch = new FileWatch(path, () => noticed.resolve('noticed'))
  closeAfterwards(() => watch.close())
  await queue.submit([completeSpec({ type: 't' })])
  expect(await noticed.promise).toBe('noticed')
})
