import { type Log, type RunningServer, startServer, startWorker, startXQueue } from 'xqueue'
import { handlers } from './handlers.js'

export async function serve(logger: Log): Promise<void> {
  const xqueue: RunningServer = await startXQueue({
    handlers,
    engine: 'sqlite:./x.db',
    retentionAge: '1d',
    listen: false,
  })
  const server = await startServer({ port: 0, logger, corsOrigins: ['https://shop.example'] })
  const worker = await startWorker({ handlers, lease: 60 })
  // @ts-expect-error
  await startServer({ prot: 0 })
  console.log(xqueue.handler.length, server.address, worker.types)
  await Promise.all([xqueue.stop(), server.stop(), worker.stop()])
}
