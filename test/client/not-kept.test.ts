import { beforeEach, describe, expect, it, vi } from 'vitest'
import { waitForEnd } from '../../src/cli/tasks.ts'
import { createClient, defineHandlers, TaskUnsuccessful } from '../../src/index.ts'
import { type Server, startServer } from '../fixtures/server.ts'

/** Waits for tasks that are deleted as soon as they have ended. */

let ends: () => void
let mayEnd: Promise<void>
const handlers = defineHandlers({
  brief: {
    retention: { success: 0, failed: 0 },
    run: async ({ payload }: { payload: { fails: boolean } }) => {
      await mayEnd
      if (payload.fails) throw new Error('no luck')
      return { n: 7 }
    },
  },
})
let server: Server
/** Whether the client may follow events. */
let hasEvents: boolean
/** That it has asked for, which it does when it has seen the task unfinished. */
let streams: number

beforeEach(async () => {
  ;({ promise: mayEnd, resolve: ends } = Promise.withResolvers<void>())
  hasEvents = true
  streams = 0
  server = await startServer({}, handlers)
})

/** Reads a task that has ended only after it has been deleted. */
const late: typeof fetch = async (url, init) => {
  const isStream = `${url}`.includes('/events?')
  const isRefused = isStream && !hasEvents
  const answer = isRefused ? Response.json({ code: 'too_many_calls' }, { status: 429 }) : await fetch(url, init)
  if (isStream) streams += 1
  if (!/\/tasks\/[^/]+$/.test(`${url}`) || !answer.ok) return answer
  const { completed_at } = (await answer.clone().json()) as { completed_at: string | null }
  if (completed_at === null) return answer
  return vi.waitFor(async () => {
    const again = await fetch(url, init)
    expect(again.status).toBe(404)
    return again
  }, 20_000)
}

/** What a wait for a task says, whose end comes when the wait has begun. */
async function waitFor(fails: boolean, wait: (id: string) => Promise<unknown>): Promise<unknown> {
  const { id } = await createClient<typeof handlers>(server.url).submit('brief', { fails }, { maxRetry: 0 })
  const said = wait(id).catch((error: unknown) => error)
  await vi.waitFor(() => expect(streams).toBeGreaterThan(0), 20_000)
  ends()
  return said
}

describe('the client', () => {
  const result = (id: string) => createClient(server.url, { fetch: late }).result(id)

  it('returns the result that the event of the end has', async () => {
    expect(await waitFor(false, result)).toEqual({ n: 7 })
  })

  it('throws how the task ended, as the event says', async () => {
    const error = await waitFor(true, result)
    expect(error).toBeInstanceOf(TaskUnsuccessful)
    expect((error as TaskUnsuccessful).task).toMatchObject({ status: 'failed', attempts: 1, payload: { fails: true } })
    expect((error as Error).message).toContain('no luck')
  })

  it('says that the task is no longer kept if it has seen no event', async () => {
    hasEvents = false
    expect(await waitFor(false, result)).toMatchObject({
      code: 'not_found',
      message: expect.stringMatching(/of type brief has ended and is no longer kept.*: set a longer retention/),
    })
  })
})

it('the command line shows the end that the event says', async () => {
  const wait = (id: string) => waitForEnd({ url: server.url, key: null, fetch: late }, id)
  expect(await waitFor(false, wait)).toMatchObject({ status: 'success', result: { n: 7 }, payload: { fails: false } })
})
