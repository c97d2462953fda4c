/**
 * An application with its own pages: it submits a task for each order and shows its status in the browser as it
 * changes. One event stream of XQueue serves all browsers, and a key for XQueue never leaves this process.
 *
 *   npm start
 *   npx node examples/live-status/app.ts           (in another terminal; then open what it prints)
 */
import { readFileSync } from 'node:fs'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type handlers from '../../handlers/index.ts'
import { createClient, type Progress, type Status } from '../../src/index.ts'

interface Order {
  id: string
  status: Status
  progress: Progress | null
}

const client = createClient<typeof handlers>(process.env.XQUEUE_SERVER)
const page = readFileSync(join(import.meta.dirname, 'page.html'))
const orders = new Map<string, Order>()
const browsers = new Set<ServerResponse>()

const app = createServer(async (request, response) => {
  switch (`${request.method} ${request.url}`) {
    case 'GET /':
      response.setHeader('Content-Type', 'text/html; charset=utf-8').end(page)
      break
    case 'POST /orders': {
      try {
        const { id, status, progress } = await client.submit('example', { duration: 2 })
        if (!orders.has(id)) tell({ id, status, progress }) // Its first change may have been told already.
        response.writeHead(201).end()
      } catch (error) {
        response.writeHead(503).end((error as Error).message)
      }
      break
    }
    case 'GET /changes':
      response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' })
      for (const order of orders.values()) response.write(lineOf(order))
      browsers.add(response)
      request.once('close', () => browsers.delete(response))
      break
    default:
      response.writeHead(404).end()
  }
})
app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${(app.address() as AddressInfo).port}`)
})

// A connection that breaks is opened again by the client, and goes on where it was.
for await (const { task_id, status, progress } of client.changes({ type: 'example' })) {
  tell({ id: task_id, status, progress })
}

function tell(order: Order): void {
  orders.set(order.id, order)
  for (const browser of browsers) browser.write(lineOf(order))
}

function lineOf(order: Order): string {
  return `data: ${JSON.stringify(order)}\n\n`
}
