/** openapi-fetch over the types that openapi-typescript makes. */
import assert from 'node:assert/strict'
import createClient from 'openapi-fetch'
import type { paths } from './schema'

const [baseUrl, key] = process.argv.slice(2) as [string, string]
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } })

const body = { type: 'remote', payload: { n: 1 }, delay: '1h' }
const { data: task } = await client.POST('/api/v1/tasks', { body })
assert(task)
const path = { id: task.id }
const { data: got } = await client.GET('/api/v1/tasks/{id}', { params: { path } })
assert.deepEqual(got?.payload, { n: 1 })
const { data: list } = await client.GET('/api/v1/tasks', { params: { query: { type: 'remote', status: 'pending' } } })
assert(list?.tasks.some(({ id }) => id === task.id))
const { data: canceled } = await client.DELETE('/api/v1/tasks/{id}', { params: { path } })
assert.equal(canceled?.status, 'canceled')
const { response } = await client.POST('/api/v1/tasks/{id}/purge', { params: { path } })
assert.equal(response.status, 204)
for (const max_concurrency of [2, null]) {
  await client.POST('/api/v1/concurrency', { body: { task_type: 'remote', max_concurrency } })
  const { data: limit } = await client.GET('/api/v1/concurrency/{type}', { params: { path: { type: 'remote' } } })
  assert.equal(limit?.max_concurrency, max_concurrency)
}
const { error } = await client.GET('/api/v1/tasks/{id}', { params: { path: { id: 'nobody' } } })
assert.equal(error?.code, 'not_found')
console.log('OK')
