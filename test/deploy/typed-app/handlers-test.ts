import standard from 'xqueue/handlers'
import { createTestQueue } from 'xqueue/testing'
import { handlers } from './handlers.js'

export async function test(): Promise<string> {
  const queue = await createTestQueue({ ...handlers, ...standard })
  const task = await queue.submit('greet', { name: 'Ann' })
  await queue.runUntilIdle()
  const text: string = await queue.result(task)
  await queue.close()
  return text
}
