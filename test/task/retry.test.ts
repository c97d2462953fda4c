import { expect, it } from 'vitest'
import { completeRetryPolicy, retryDelaysMs } from '../../src/task/retry.ts'
import type { Handlers } from '../../src/worker/handler.ts'
import { checkPayload, normalizeHandlers } from '../../src/worker/handlers.ts'

it('keeps a first delay above the default cap, and refuses one above a cap that is set', () => {
  expect(retryDelaysMs(completeRetryPolicy({ baseMs: 3_600_000 }))).toEqual([3_600_000])
  expect(() => completeRetryPolicy({ baseMs: 2_000, capMs: 1_000 })).toThrow(
    /retry\.baseMs is 2000 and retry\.capMs 1000/,
  )
})

it('names the path of a value that a validator refuses, whatever its keys are', async () => {
  const validate = () => ({
    issues: [{ message: 'is wrong', path: [{ key: { of: 'map' } }, { key: Symbol('s') }, 'list', 0] }],
  })
  const payload = { '~standard': { version: 1, vendor: 'test', validate } }
  const handler = normalizeHandlers({ t: { payload, run: () => null } } as unknown as Handlers).get('t')!
  expect(await checkPayload(handler, {})).toEqual([{ path: 'payload.{"of":"map"}.s.list.0', message: 'is wrong' }])
})
