/**
 * An Express application with a page of its own: it submits tasks, and shows in the browser how they go. The client
 * knows the handlers, so a wrong type or payload does not compile.
 *
 *   npm start
 *   npx node examples/express/app.ts               (in another terminal; then open what it prints)
 */
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import express, { type NextFunction, type Request, type Response } from 'express'
import type handlers from '../../handlers/index.ts'
import { createClient, type TaskChange } from '../../src/index.ts'

const SHOWN_MAX = 50
const UNSENT_BYTES_MAX = 1024 * 1024

const client = createClient<typeof handlers>(process.env.XQUEUE_SERVER)
/** The last change of each task that is shown, oldest task first. */
const shown = new Map<string, TaskChange>()
const browsers = new Set<Response>()
const app = express()

app.get('/', (_request, response) => response.sendFile(join(import.meta.dirname, 'page.html')))

app.post('/tasks', express.json(), async ({ body }, response) => {
  const { id } = await client.submit('example', { duration: body?.duration })
  response.status(201).json({ id })
})

app.delete('/tasks/:id', async ({ params }, response) => {
  const { id, status } = await client.cancel(params.id)
  response.json({ id, status })
})

app.get('/changes', (request, response) => {
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' }).flushHeaders()
  for (const change of shown.values()) response.write(recordOf(change))
  browsers.add(response)
  request.once('close', () => browsers.delete(response))
})

// Errors of XQueue have a status and say how to correct the call; Express passes rejections of the calls above here.
app.use((error: Error & { status?: number }, _request: Request, response: Response, _next: NextFunction) => {
  response.status(error.status ?? 500).json({ detail: error.message })
})

const server = app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
})

// Browsers connect to this application, not to XQueue: the key stays here, only it knows its users and may decide who
// sees what, and one stream serves them all. Where that is not wanted, POST /api/v1/subscriptions makes a token with
// which a page receives changes of its own task from XQueue. A lost stream is reopened and resumes.
for await (const change of client.changes({ type: 'example' })) {
  shown.set(change.taskId, change)
  if (shown.size > SHOWN_MAX) shown.delete(shown.keys().next().value!)
  for (const browser of browsers) {
    if (browser.writableLength < UNSENT_BYTES_MAX) browser.write(recordOf(change))
    else browser.destroy() // It does not read; should it come again, it gets the present states.
  }
}

function recordOf({ taskId, status, progress, error, timestamp }: TaskChange): string {
  return `data: ${JSON.stringify({ id: taskId, status, progress, error, timestamp })}\n\n`
}
