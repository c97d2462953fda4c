import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { isFinal, type Status } from '../../src/task/status.ts'
import { temporaryFolder } from '../fixtures/folder.ts'

const folder = temporaryFolder()

const ROUNDS = 6

it('loses nothing and finishes nothing twice when its process is killed under load', async () => {
  const url = `sqlite:${join(folder, 'x.db')}`
  const submitted = new Set<string>()
  const settled: string[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'crash-child.ts'), url])
    let text = ''
    child.stdout.on('data', (chunk) => {
      text += chunk
    })
    await once(child.stdout, 'data')
    // When it dies is left to chance on purpose.
    await sleep(100 + Math.random() * 300)
    child.kill('SIGKILL')
    await once(child, 'close')
    // An incomplete last line was never reported.
    for (const line of text.slice(0, text.lastIndexOf('\n')).split('\n')) {
      const [what, id] = line.split(' ') as [string, string]
      if (what === 'submitted') submitted.add(id)
      else settled.push(id)
    }
  }
  expect(submitted.size).toBeGreaterThan(100)
  expect(new Set(settled).size).toBe(settled.length)

  const queue = await openQueue(url, { eventsMax: 1e9 })
  const ids = [...submitted]
  expect((await queue.get(ids)).filter((task) => task === null)).toEqual([])
  for (const task of await queue.get(settled)) expect(task!.status).toBe('success')

  const endings = new Map<string, Status[]>()
  let after = ''
  for (;;) {
    const { events, last } = await queue.events({ after, max: 1_000 })
    if (events.length === 0) break
    for (const { taskId, status } of events) {
      if (isFinal(status)) endings.set(taskId, [...(endings.get(taskId) ?? []), status])
    }
    after = last
  }
  expect([...endings.values()].filter((final) => final.length > 1)).toEqual([])
  const { counts } = await queue.stats()
  expect(counts.success).toBe(endings.size)
  await queue.close()
})
