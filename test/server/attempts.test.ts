import { beforeAll, describe, expect, it, vi } from 'vitest'
import { createClient } from '../../src/index.ts'
import type { Body } from '../fixtures/api.ts'
import { type Server, startServer } from '../fixtures/server.ts'

let server: Server
let tried: string
const handlers = {
  flaky: {
    maxRetry: 1,
    retry: { delay: 0.001 },
    run: () => {
      throw new Error('card 4711 refused', { cause: new Error('no credit') })
    },
  },
}
const ended = async (of: Server, key?: string): Promise<string> => {
  const id = await (key ? of.as(key) : of).submit('flaky')
  await vi.waitFor(async () => expect((await of.queue.get([id]))[0]!.status).toBe('failed'), { timeout: 30_000 })
  return id
}

beforeAll(async () => {
  server = await startServer({}, handlers)
  tried = await ended(server)
})

describe('GET /tasks/:id/attempts', () => {
  it('returns each attempt with its worker, its times, its stack and the chain of causes', async () => {
    const { status, body } = await server.call('GET', `/tasks/${tried}/attempts`)
    expect(status).toBe(200)
    expect(body).toMatchObject({
      left_out: 0,
      attempts: [
        { number: 1, delivery: 1 },
        { number: 2, delivery: 2 },
      ],
    })
    for (const attempt of body.attempts) {
      expect(attempt).toMatchObject({ outcome: 'failed', worker_id: expect.any(String) })
      expect(Date.parse(attempt.ended_at)).toBeGreaterThanOrEqual(Date.parse(attempt.started_at))
      expect(attempt.error).toMatch(/^Error: card 4711 refused\n\s+at .*\[cause\]: Error: no credit\n\s+at /s)
    }
    expect((await server.call('GET', '/tasks/none/attempts')).status).toBe(404)
  })

  it('is typed in the client', async () => {
    const { attempts, leftOut } = await createClient(server.url).attempts(tried)
    expect(leftOut).toBe(0)
    expect(attempts.map(({ number, outcome, startedAt }) => [number, outcome, startedAt instanceof Date])).toEqual([
      [1, 'failed', true],
      [2, 'failed', true],
    ])
  })
})

it('hides the errors of attempts where it hides those of tasks', async () => {
  const redacting = await startServer({ redact: 'error' }, handlers)
  const { body } = await redacting.call('GET', `/tasks/${await ended(redacting)}/attempts`)
  expect(body.attempts.map(({ error }: { error: string }) => error)).toEqual(['[redacted]', '[redacted]'])
  const keyed = await startServer({ auth: 'keys' }, handlers)
  const submitter = await keyed.key(['submit'])
  const id = await ended(keyed, submitter)
  const reader = keyed.as(await keyed.key(['read']))
  const whole = await reader.get(`/tasks/${id}/attempts`)
  expect(whole.body.attempts[0].error).toContain('card 4711')
  const viewer = keyed.as(await keyed.key(['view']))
  const { attempts } = (await viewer.get(`/tasks/${id}/attempts`)).body
  expect(attempts.map(({ error, outcome }: Body) => [outcome, error])).toEqual(Array(2).fill(['failed', null]))
})
