import { pino } from 'pino'
import { expect, it, vi } from 'vitest'
import { Sweeper } from '../../src/queue/sweeper.ts'
import { MACHINE_TIME } from '../../src/task/time.ts'
import { openTestQueue } from '../fixtures/server.ts'

it('warns of the first failed sweep, and no more while the following ones fail', async () => {
  const queue = await openTestQueue('sqlite::memory:')
  await queue.close()
  const levels: number[] = []
  const logger = pino({ level: 'debug' }, { write: (line) => void levels.push(JSON.parse(line).level) })
  const sweeper = new Sweeper(queue, logger, {
    ...MACHINE_TIME,
    after: (_ms, run) => {
      const soon = setImmediate(run)
      return () => clearImmediate(soon)
    },
  })
  sweeper.start()
  await vi.waitFor(() => expect(levels.slice(0, 3)).toEqual([40, 20, 20]))
  await sweeper.stop()
})
