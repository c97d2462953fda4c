import { beforeAll, expect, it } from 'vitest'
import { type Server, startServer } from '../fixtures/server.ts'

let guarded: Server
let key: string
beforeAll(async () => {
  guarded = await startServer({ auth: 'keys' })
  await guarded.queue.configureLimit('gpu', { max: 2 })
  key = await guarded.key(['admin', 'submit', 'read'], { bounds: { types: ['quick'], groups: ['acme', 'globex'] } })
})
const call = (method: string, path: string, body: object) => guarded.as(key).call(method, path, body)
const task = { type: 'quick', group: 'acme' }

it.each([{ gpu: 1 }, {}])('refuses the uses %j of a key with bounds, in tasks and schedules', async (uses) => {
  const id = `uses-${Object.keys(uses)}`
  const kept = { id, ...task, every: '1h' }
  const refused = { status: 403, body: { code: 'forbidden', detail: expect.stringContaining('omit `uses`') } }
  expect(await call('POST', '/tasks', { ...task, uses })).toMatchObject(refused)
  expect(await call('POST', '/tasks/batch', { tasks: [task, { ...task, uses }] })).toMatchObject(refused)
  expect(await call('POST', '/schedules', { ...kept, uses })).toMatchObject(refused)
  expect(await call('POST', '/schedules', kept)).toMatchObject({ status: 201 })
  expect(await call('PATCH', `/schedules/${id}`, { uses })).toMatchObject(refused)
  expect(await call('PATCH', `/schedules/${id}`, { priority: 1 })).toMatchObject({ status: 200, body: { uses: {} } })
})

it('moves a schedule only to a group within the bounds of the key', async () => {
  expect(await call('POST', '/schedules', { id: 'moves', ...task, every: '1h' })).toMatchObject({ status: 201 })
  const rival = { group: 'initech' }
  const refused = { status: 400, body: { errors: [{ path: 'group' }] } }
  expect(await call('POST', '/schedules', { id: 'other', ...task, every: '1h', ...rival })).toMatchObject(refused)
  expect(await call('PATCH', '/schedules/moves', rival)).toMatchObject(refused)
  const moved = await call('PATCH', '/schedules/moves', { group: 'globex' })
  expect(moved).toMatchObject({ status: 200, body: { group: 'globex' } })
  const made = await call('POST', '/schedules/moves/run', {})
  expect(made.status).toBe(201)
  const { body } = await guarded.as(key).call('GET', `/tasks/${made.body.last_task_id}`)
  expect(body).toMatchObject({ group: 'globex' })
})
