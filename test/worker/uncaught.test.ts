import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { completeSpec } from '../../src/task/task.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { main } from '../fixtures/root.ts'

const HANDLERS = `
let isRunning = false
setInterval(() => {
  if (isRunning) throw new Error('outside')
}, 10)
export default { waits: { run: () => { isRunning = true; return new Promise(() => undefined) } } }
`

it('ends the process at an exception outside any handler, and says why', async () => {
  const folder = temporaryFolder()
  writeFileSync(join(folder, 'handlers.mjs'), HANDLERS)
  const queue = await openQueue(`sqlite:${join(folder, 'x.db')}`)
  closeAfterwards(() => queue.close())
  await queue.configureType('waits', { declared: true })
  await queue.submit([completeSpec({ type: 'waits' })])
  const args = [main, 'worker', '--engine', 'sqlite:x.db', '--handlers', 'handlers.mjs', '--log-format', 'json']
  const child = endAtExit(spawn(process.execPath, args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] }))
  const log = text(child.stderr!)
  expect(await once(child, 'exit')).toEqual([1, null])
  const fatal = {
    level: 60,
    msg: 'an exception outside any handler',
    err: expect.objectContaining({ message: 'outside' }),
  }
  const lines = (await log)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(lines).toContainEqual(expect.objectContaining(fatal))
})
