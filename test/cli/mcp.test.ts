import { Client } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import { beforeAll, expect, it } from 'vitest'
import { closeAfterwards } from '../fixtures/closing.ts'
import { type Program, runXQueue, startProgram } from '../fixtures/program.ts'
import { main } from '../fixtures/root.ts'

let server: Program

beforeAll(async () => {
  server = await startProgram({ guarded: true })
})

/** The client of the official SDK, connected to `xqueue mcp` with a key of these scopes. */
async function connect(scopes: string, ...flags: string[]): Promise<Client> {
  const args = ['keys', 'create', `mcp-${scopes.replaceAll(',', '-')}`, '--scopes', scopes, '--engine', server.store]
  const key = runXQueue(args).stdout.trim()
  const client = new Client({ name: 'test', version: '1' })
  const env = { PATH: process.env.PATH!, XQUEUE_SERVER: server.url, XQUEUE_KEY: key }
  closeAfterwards(() => client.close())
  await client.connect(new StdioClientTransport({ command: process.execPath, args: [main, 'mcp', ...flags], env }))
  return client
}

async function namesOf(client: Client): Promise<string[]> {
  return (await client.listTools()).tools.map(({ name }) => name).sort()
}

async function use(client: Client, name: string, input: object = {}) {
  const { content, isError = false } = await client.callTool({ name, arguments: { ...input } })
  const [{ text }] = content as unknown as [{ text: string }]
  return { isError, text, answer: () => JSON.parse(text) }
}

const READING = [
  ...['explain_task', 'get_limit', 'get_statistics', 'get_task', 'get_task_logs'],
  ...['list_limits', 'list_tasks'],
]

it('a model submits, reads, explains, cancels and retries tasks', async () => {
  const client = await connect('submit,read')
  const { id } = (await use(client, 'submit_task', { type: 'remote', payload: { a: 1 }, delay: '1h' })).answer()
  expect((await use(client, 'explain_task', { id })).answer()).toMatchObject({ reason: 'delayed' })
  expect((await use(client, 'cancel_task', { id })).answer()).toMatchObject({ status: 'canceled' })
  expect((await use(client, 'retry_task', { id })).answer()).toMatchObject({ status: 'pending' })
  expect((await use(client, 'get_task', { id })).answer()).toMatchObject({
    task: { id, payload: { a: 1 } },
    attempts: [],
    explanation: { reason: 'no_worker' },
  })
  const listed = (await use(client, 'list_tasks', { type: 'remote', limit: 1 })).answer()
  expect(listed.tasks).toEqual([expect.objectContaining({ id, status: 'pending' })])
  expect(listed.tasks[0]).not.toHaveProperty('payload')
  const future = { type: 'remote', created_after: new Date(Date.now() + 60_000).toISOString() }
  expect((await use(client, 'list_tasks', future)).answer().tasks).toEqual([])
  expect((await use(client, 'get_task_logs', { id })).answer()).toMatchObject({ lines: [] })
  const { stats, types } = (await use(client, 'get_statistics')).answer()
  expect(stats.pending_tasks).toBeGreaterThan(0)
  expect(types.map(({ type }: { type: string }) => type)).toContain('remote')
})

it('an operator sets, holds, pauses and resumes limits', async () => {
  const client = await connect('admin')
  const name = 'gpu'
  expect((await use(client, 'set_limit', { name, max: 2, rate: { max: 10, per: '1m' } })).answer()).toMatchObject({
    max: 2,
  })
  expect((await use(client, 'hold_limit', { name, for: '5m' })).answer().held_until).toMatch(/^\d{4}-/)
  expect((await use(client, 'pause_limit', { name })).answer()).toMatchObject({ paused: true })
  expect((await use(client, 'resume_limit', { name })).answer()).toMatchObject({ paused: false, held_until: null })
  expect((await use(client, 'get_limit', { name })).answer()).toMatchObject({ rate: { max: 10, per: 60 }, holders: [] })
  expect((await use(client, 'list_limits')).answer().limits).toContainEqual(expect.objectContaining({ name }))
})

it('offers the tools that the scopes of the key allow, and with --read-only no others than those that read', async () => {
  expect(await namesOf(await connect('read'))).toEqual(READING)
  expect(await namesOf(await connect('submit'))).toEqual(['cancel_task', 'retry_task', 'submit_task'])
  const reader = await connect('submit,read,admin', '--read-only')
  expect(await namesOf(reader)).toEqual(READING)
  const { tools } = await reader.listTools()
  expect(tools.every(({ annotations }) => annotations?.readOnlyHint === true)).toBe(true)
})

it('answers wrong calls with the reason, and cuts long answers', async () => {
  const client = await connect('read,submit,work')
  const missing = await use(client, 'get_task', { id: 'none' })
  expect(missing).toMatchObject({ isError: true })
  expect(missing.answer()).toMatchObject({ code: 'not_found', message: expect.stringContaining('"none" not found') })
  const wrong = await use(client, 'submit_task', { type: 'nope' })
  expect(wrong.answer()).toMatchObject({ code: 'unknown_type', registered_types: expect.arrayContaining(['remote']) })
  const id = await server.submit('remote', { text: 'x'.repeat(100_000) }, { delay: '1h' })
  const { text } = await use(client, 'get_task', { id })
  expect(text).toMatch(/… \(cut: the answer has \d{6} characters\)$/)
  expect(text.length).toBeLessThan(51_000)
})

it('says before it serves that the key is missing or not accepted', () => {
  const env = { ...process.env, XQUEUE_SERVER: server.url }
  expect(runXQueue(['mcp'], { env, input: '' })).toMatchObject({
    status: 1,
    stdout: '',
    stderr: 'xqueue: the server needs a key. Set XQUEUE_KEY or XQUEUE_KEY_FILE\n',
  })
  expect(runXQueue(['mcp'], { env: { ...env, XQUEUE_KEY: 'wrong' }, input: '' }).stderr).toContain(
    'does not accept the key',
  )
})
