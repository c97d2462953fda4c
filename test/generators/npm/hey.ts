/** The client that @hey-api/openapi-ts makes. */
import assert from 'node:assert/strict'
import { client } from './hey/client.gen'
import { cancelTask, getLimit, getTask, listTasks, purgeTask, setLimit, submitTask } from './hey/sdk.gen'

const [baseUrl, key] = process.argv.slice(2) as [string, string]
client.setConfig({ baseUrl, auth: key })

const body = { type: 'remote', payload: { n: 1 }, delay: '1h' }
const { data: task } = await submitTask({ body, throwOnError: true })
const { data: got } = await getTask({ path: { id: task.id }, throwOnError: true })
assert.deepEqual(got.payload, { n: 1 })
const { data: list } = await listTasks({ query: { type: 'remote', status: 'pending' }, throwOnError: true })
assert(list.tasks.some(({ id }) => id === task.id))
const { data: canceled } = await cancelTask({ path: { id: task.id }, throwOnError: true })
assert.equal(canceled.status, 'canceled')
await purgeTask({ path: { id: task.id }, throwOnError: true })
for (const max_concurrency of [2, null]) {
  await setLimit({ body: { task_type: 'remote', max_concurrency }, throwOnError: true })
  const { data: limit } = await getLimit({ path: { type: 'remote' }, throwOnError: true })
  assert.equal(limit.max_concurrency, max_concurrency)
}
const { error } = await getTask({ path: { id: 'nobody' } })
assert.equal(error?.code, 'not_found')
console.log('OK')
