import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

const ANSWER_MS = 50
const AT_ONCE_MAX = 2

/**
 * A fake model with OpenAI's API: it repeats its input in capitals, fails the first
 * call of all, and answers 429 while it is busy.
 */
export async function startModel(): Promise<string> {
  let calls = 0
  let open = 0
  const server = createServer(async (request, response) => {
    const answer = (status: number, body: object, headers = {}) => {
      response.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(body))
    }
    const { messages } = (await bodyOf(request)) as { messages: { content: string }[] }
    if (++calls === 1) return answer(500, { error: { message: 'not awake yet' } })
    if (open >= AT_ONCE_MAX) return answer(429, { error: { message: 'too many requests' } }, { 'Retry-After': '1' })
    open++
    await sleep(ANSWER_MS)
    open--
    const [task, text] = messages.at(-1)!.content.split(':\n')
    const content = task!.startsWith('Summarize') ? `${text!.split('.')[0]}.` : text!.toUpperCase()
    answer(200, { object: 'chat.completion', choices: [{ index: 0, message: { role: 'assistant', content } }] })
  })
  server.unref() // It ends with the worker.
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  let text = ''
  for await (const chunk of request) text += chunk
  return JSON.parse(text)
}
