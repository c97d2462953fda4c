import { join } from 'node:path'
import { pino } from 'pino'
import { openQueue } from '../../src/queue/open.ts'
import { loadHandlers, normalizeHandlers } from '../../src/worker/handlers.ts'
import { Worker } from '../../src/worker/worker.ts'

/** A worker as a process of its own, until it is killed. */
const [url, lease] = process.argv.slice(2)
const file = join(import.meta.dirname, 'frozen-handlers.ts')
const leaseMs = Number(lease)
const queue = await openQueue(url!, { leaseMs })
const handlers = normalizeHandlers(await loadHandlers(file), file)
await new Worker({ queue, handlers, logger: pino({ level: 'silent' }), leaseMs }).start()
process.stdout.write('started\n')
