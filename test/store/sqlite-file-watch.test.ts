import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as immediate } from 'node:timers/promises'
import { describe, expect, it, vi } from 'vitest'
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
  const watch = new FileWatch(path, () => {
    noticed.resolve('noticed')
    return true
  })
  closeAfterwards(() => watch.close())
  await queue.submit([completeSpec({ type: 't' })])
  expect(await noticed.promise).toBe('noticed')
})

describe('checks', () => {
  function checked(path: string): { times: () => number; advance: (ms: number) => Promise<unknown> } {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    closeAfterwards(() => vi.useRealTimers())
    let times = 0
    const watch = new FileWatch(path, () => {
      times += 1
      return true
    })
    closeAfterwards(() => watch.close())
    const advance = async (ms: number) => {
      await vi.advanceTimersByTimeAsync(ms)
      await immediate()
    }
    return { times: () => times, advance }
  }

  it('once a second where changes are reported, and ten times once one was not', async () => {
    const path = join(temporaryFolder(), 'x.db')
    writeFileSync(`${path}-wal`, '')
    const { times, advance } = checked(path)
    await advance(999)
    expect(times()).toBe(0)
    await advance(1)
    expect(times()).toBe(1)
    await advance(1_000)
    expect(times()).toBe(11)
  })

  it('ten times a second where there is nothing to watch', async () => {
    const { times, advance } = checked(join(temporaryFolder(), 'x.db'))
    await advance(1_000)
    expect(times()).toBe(10)
  })
})
