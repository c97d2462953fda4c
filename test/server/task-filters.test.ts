import { beforeAll, expect, it } from 'vitest'
import { type Server, startServer } from '../fixtures/server.ts'

let server: Server
let failed: string[]
let middle: string

beforeAll(async () => {
  server = await startServer()
  await server.call('POST', '/types/mine', { declared: true })
  const fail = async (error: string) => {
    const id = await server.submit('mine', {}, { max_retry: 0 })
    const { leases } = (await server.call('POST', '/tasks/consume', { types: ['mine'], wait: 30 })).body
    await server.call('POST', `/leases/${leases[0].lease}/fail`, { error, retry: false })
    return id
  }
  failed = [await fail('Error: 503 from a')]
  // The next task has a later time.
  do middle = new Date().toISOString()
  while (middle <= (await server.call('GET', `/tasks/${failed[0]}`)).body.created_at)
  failed.push(await fail('Error: 503 from b'), await fail('disk full'))
})

const listed = async (query: Record<string, string>) => {
  const { body } = await server.call('GET', `/tasks?${new URLSearchParams(query)}`)
  return body.tasks.map(({ id }: { id: string }) => id)
}

it('lists tasks by the time of acceptance, in any time zone, and by a part of the error', async () => {
  expect(await listed({ created_after: middle })).toEqual([failed[2], failed[1]])
  expect(await listed({ created_before: middle })).toEqual([failed[0]])
  expect(await listed({ created_after: middle, error: 'error: 503' })).toEqual([failed[1]])
  const east = `${new Date(Date.parse(middle) + 7_200_000).toISOString().slice(0, -1)}+02:00`
  expect(await listed({ created_after: east, status: 'failed' })).toEqual([failed[2], failed[1]])
  expect(await listed({ created_after: middle, created_before: middle })).toEqual([])
})

it('counts, retries, cancels and purges exactly the tasks that the list shows', async () => {
  const filter = { created_after: middle, error: '503' }
  const all = (change: string, more = {}) => server.call('POST', `/tasks/${change}`, { ...filter, ...more })
  for (const change of ['retry', 'purge']) {
    expect((await all(change, { dry_run: true })).body).toEqual({ count: 1, more: false })
  }
  expect((await all('cancel', { dry_run: true })).body).toEqual({ count: 0, more: false })
  expect(await all('retry')).toMatchObject({ status: 202, body: { count: 1 } })
  expect(await listed({ status: 'pending' })).toEqual([failed[1]])
  expect(await server.call('POST', '/tasks/cancel', { created_after: middle })).toMatchObject({ body: { count: 1 } })
  expect(await server.call('POST', '/tasks/purge', { error: 'DISK' })).toMatchObject({ body: { count: 1 } })
  expect(await listed({})).toEqual([failed[1], failed[0]])
})

it('lists, counts and changes errors that differ only in numbers and ids, or after the first line', async () => {
  const like = { error_like: 'no user 1 (3f0a9c1b2d4e) \nat x', type: 'liked' }
  await server.call('POST', '/types/liked', { declared: true })
  const errors = [
    'no user 22 (9c1b2d4e3f0a)',
    'no user 3 (0a9c1b2d4e3f)\nat y',
    'No user 4 (0a9c1b2d4e3f)',
    'no user 5',
  ]
  const ids: string[] = []
  for (const error of errors) {
    ids.push(await server.submit('liked', {}, { max_retry: 0 }))
    const { leases } = (await server.call('POST', '/tasks/consume', { types: ['liked'], wait: 30 })).body
    await server.call('POST', `/leases/${leases[0].lease}/fail`, { error, retry: false })
  }
  expect(await listed(like)).toEqual([ids[1], ids[0]])
  expect(await listed({ ...like, error: 'AT Y' })).toEqual([ids[1]])
  expect(await listed({ error_like: '17', type: 'liked' })).toEqual([])
  const all = (change: string, more = {}) => server.call('POST', `/tasks/${change}`, { ...like, ...more })
  expect((await all('purge', { dry_run: true })).body).toEqual({ count: 2, more: false })
  expect((await all('retry')).body).toEqual({ count: 2 })
  expect(await listed({ type: 'liked', status: 'failed' })).toEqual([ids[3], ids[2]])
  expect((await all('cancel')).body).toEqual({ count: 0 })
  const offset = await server.call('GET', '/tasks?error_like=a&offset=1')
  expect([offset.status, offset.body.detail]).toEqual([400, expect.stringContaining('error_like')])
})

it.each([
  ['POST', '/tasks/purge', {}],
  ['POST', '/tasks/cancel', {}],
  ['POST', '/tasks/retry', {}],
  ['POST', '/types/mine/pause', {}],
  ['PUT', '/limits/l', { max: 1 }],
  ['PATCH', '/schedules/s', { paused: true }],
  ['DELETE', '/limits/l', undefined],
])('refuses parameters of a call that has none, so that a filter is not lost: %s %s', async (method, path, input) => {
  const { status, body } = await server.call(method, `${path}?status=failed&dry_run=true`, input)
  expect([status, body.code, body.detail]).toEqual([400, 'invalid_request', expect.stringContaining('status')])
})

it.each([
  [{ created_after: 'yesterday' }, 'created_after', 'must be an RFC 3339 time, such as 2030-01-31T12:00:00Z'],
  [{ created_before: '24h' }, 'created_before', 'must be an RFC 3339 time'],
  [{ created_before: '2030-02-30T12:00:00Z' }, 'created_before', 'must be an RFC 3339 time'],
  [{ created_after: '2016-12-31T23:59:60Z' }, 'created_after', 'must be an RFC 3339 time'],
  [
    { created_after: '2030-01-02T00:00:00Z', created_before: '2030-01-01T00:00:00Z' },
    'created_after',
    'must not be later than created_before, 2030-01-01T00:00:00Z: exchange them, or leave one out',
  ],
  [{ error: '' }, 'error', 'must'],
  [{ error: 'x'.repeat(201) }, 'error', 'must'],
  [{ error_like: '' }, 'error_like', 'must'],
])('refuses %j in lists and changes', async (filter: Record<string, string>, path, message) => {
  const answers = [await server.call('GET', `/tasks?${new URLSearchParams(filter)}`)]
  for (const change of ['cancel', 'retry', 'purge']) {
    answers.push(await server.call('POST', `/tasks/${change}`, filter))
    answers.push(await server.call('POST', `/tasks/${change}`, { ...filter, dry_run: true }))
  }
  for (const { status, body } of answers) {
    const errors = [{ path: expect.stringContaining(path), message: expect.stringContaining(message) }]
    expect([status, body]).toEqual([400, expect.objectContaining({ code: 'invalid_request', errors })])
  }
})
