import { beforeAll, expect, it } from 'vitest'
import { type Server, startServer } from '../fixtures/server.ts'

let guarded: Server
let operator: string
beforeAll(async () => {
  guarded = await startServer(
    { auth: 'keys' },
    { report: { retention: { success: '1h', failed: 60 }, run: () => null } },
  )
  operator = await guarded.key(['submit', 'read', 'admin'])
})

const set = (retention: unknown, key = operator) => guarded.as(key).call('POST', '/types/report', { retention })

it('an operator overrides the retention of the handler, and restores it', async () => {
  expect((await set({ failed: '30d', timeout: 0 })).body).toMatchObject({
    retention: { success: 3_600, failed: 2_592_000, canceled: null, timeout: 0 },
  })
  const { body } = await guarded.as(operator).call('GET', '/types')
  const types = body.types as { type: string; retention: object }[]
  const retentionOf = (name: string) => types.find(({ type }) => type === name)!.retention
  expect(retentionOf('report')).toMatchObject({ failed: 2_592_000, canceled: null })
  expect(retentionOf('quick')).toEqual({ success: null, failed: null, canceled: null, timeout: null })
  expect((await set({ failed: null, timeout: null })).body).toMatchObject({
    retention: { success: 3_600, failed: 60, canceled: null, timeout: null },
  })
})

it.each([
  [{ failed: -1 }, 'retention.failed', /must be >= 0/],
  [{ failed: '-1h' }, 'retention.failed', /"-1h" is not a duration/],
  [{ failed: '367d' }, 'retention.failed', /"367d" is longer than 366 days/],
  [{ failed: 31_622_401 }, 'retention.failed', /31622400/],
  [{ failed: true }, 'retention.failed', /./],
  [{ pending: '1h' }, 'retention.pending', /./],
  ['1h', 'retention', /./],
])('refuses the retention %j', async (retention, path, message) => {
  const { status, body } = await set(retention)
  expect(status).toBe(400)
  expect(body.errors).toContainEqual({ path, message: expect.stringMatching(message) })
})

it('a key with bounds cannot set it, also with admin', async () => {
  const tenant = await guarded.key(['submit', 'admin'], { bounds: { types: ['report'], groups: null } })
  expect((await set({ failed: 1 }, tenant)).body).toMatchObject({ code: 'forbidden' })
})

it('writes the old and the new retention to the audit log', async () => {
  await set({ canceled: 5 })
  await set({ canceled: 6 })
  const all = JSON.stringify(guarded.audits().filter(({ action }) => action === 'POST /api/v1/types/:type'))
  expect(all).toMatch(/"from":.*"canceled":5.*"to":.*"canceled":6/)
})

it('a worker of one type receives results of predecessors that retention has deleted', async () => {
  await guarded.as(operator).call('POST', '/types/first', { retention: { success: 0 } })
  const worker = await guarded.key(['submit', 'work'], { bounds: { types: ['first', 'then'], groups: null } })
  await guarded.as(operator).call('POST', '/types/then', {})
  const submitted = await guarded.as(worker).call('POST', '/tasks/batch', {
    tasks: [{ type: 'first' }, { type: 'then', after: [0] }],
  })
  const [first] = submitted.body.tasks as { id: string }[]
  const take = async (type: string) =>
    (await guarded.as(worker).call('POST', '/tasks/consume', { types: [type] })).body.leases[0]
  const { lease } = await take('first')
  await guarded.as(worker).call('POST', `/leases/${lease}/complete`, { result: 7 })
  while ((await guarded.queue.sweep(100)).more);
  expect((await guarded.as(operator).call('GET', `/tasks/${first!.id}`)).status).toBe(404)
  expect((await take('then')).predecessors).toMatchObject([{ id: first!.id, result: 7 }])
})
