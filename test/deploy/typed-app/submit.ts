import { createClient, type Status, type TaskOf, XQueueError } from 'xqueue/client'
import type { handlers } from './handlers.js'

type Types = typeof handlers

/** Each comment with `@ts-expect-error` is a mistake that the types must find. */
export async function submit(server: string): Promise<string> {
  const client = createClient<Types>(server, { key: 'secret' })
  const task: TaskOf<Types, 'charge'> = await client.submit('charge', { id: 'a', cents: 5 }, { delay: 1.5 })
  // @ts-expect-error
  await client.submit('charge', { id: 'a', cents: '5' })
  // @ts-expect-error
  await client.submit('other', {})
  const [first] = await client.submitMany([
    { type: 'charge', payload: { id: 'b', cents: 7 } },
    { type: 'greet', payload: { name: 'Ann' } },
  ])
  for await (const { completedAt, payload } of client.list({ type: 'greet' })) {
    console.log(completedAt?.getTime(), payload.name, first)
  }
  const flow = client.flow()
  const handle = flow.add('greet', { name: 'Bo' })
  await flow.submit()
  const text: string = await handle.result()
  await client.limits.set('type:charge', { rate: { max: 5, per: '1m' } })
  console.log(
    text,
    (await client.schedules.list()).map(({ nextAt }) => nextAt?.toISOString()),
  )
  try {
    const { receipt }: { receipt: string } = await client.result(task)
    const status: Status = (await client.get(task.id)).status
    return `${receipt} ${status}`
  } catch (error) {
    if (error instanceof XQueueError && error.code === 'not_found') return 'gone'
    throw error
  }
}
