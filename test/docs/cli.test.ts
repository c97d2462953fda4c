import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, expect, it, vi } from 'vitest'
import { type Program, startProgram } from '../fixtures/program.ts'
import { main, root } from '../fixtures/root.ts'
import { snippetsOf } from '../fixtures/snippets.ts'

const text = readFileSync(join(root, 'docs/reference/cli.md'), 'utf8')
const examples = [...text.matchAll(/^ {2}(xqueue .*)$/gm)].map(([, example]) => example!)
/** Commands that do not end, take long, or need another machine; other tests run them. */
const ELSEWHERE = /^xqueue (serve|worker|migrate|mcp|watch --type)\b|redis:|queue\.example|\/var\/lib/
const ID = /[0-9a-f]{8}-[0-9a-f-]{27}|\bID\b/
let server: Program

beforeAll(async () => {
  server = await startProgram({ handlers: join(root, 'handlers/index.ts') })
  const line = (after: number[]) => `${JSON.stringify({ type: 'example', payload: { duration: 0 }, after })}\n`
  writeFileSync(join(server.folder, 'tasks.ndjson'), line([]))
  for (const file of ['flow', 'nightly']) writeFileSync(join(server.folder, `${file}.ndjson`), line([]) + line([0]))
  await server.submit('example', { duration: 0 }, { batch: 'nightly' })
})

/** A task for the example. */
async function taskFor(command: string): Promise<string> {
  const isChanged = ['cancel', 'retry', 'delete'].includes(command)
  const id = await server.submit('example', { duration: 0 }, isChanged ? { delay: '1h' } : {})
  if (isChanged && command !== 'cancel') await server.call('DELETE', `/tasks/${id}`)
  return id
}

/** Erases the tasks that other examples have submitted to a batch, and perhaps canceled while they ran. */
async function emptied(batch: string): Promise<void> {
  await vi.waitFor(async () => {
    await server.call('POST', '/tasks/purge', { batch })
    expect((await server.call('GET', `/tasks?batch=${batch}`)).body.count).toBe(0)
  })
}

it('the help has examples of most commands', () => {
  expect(examples.filter((example) => !ELSEWHERE.test(example)).length).toBeGreaterThan(25)
})

/** Runs it in the server's folder, with the settings that the server has. */
async function run(script: string): Promise<string> {
  const words = script
    .replaceAll(/(?<=^|&& )xqueue/gm, `"${process.execPath}" "${main}"`)
    .replaceAll('localhost:8080', new URL(server.url).host)
  const env = {
    ...process.env,
    HOME: server.folder,
    XQUEUE_SERVER: server.url,
    XQUEUE_PORT: new URL(server.url).port,
    XQUEUE_MQTT_PORT: '0',
    XQUEUE_ENGINE: `sqlite:${join(server.folder, 'xqueue.db')}`,
  }
  return (await promisify(execFile)('bash', ['-ec', words], { cwd: server.folder, env })).stdout
}

it.each(examples.filter((example) => !ELSEWHERE.test(example)))('%s', async (example) => {
  const [, command] = example.split(' ')
  if (example.includes('--wait')) await emptied('nightly')
  const line = ID.test(example) ? example.replace(ID, await taskFor(command!)) : example
  expect(await run(line.replace(/^(.*) > ~\/.*\/([^/]+)$/, '$1 > ~/$2 && cat ~/$2'))).not.toBe('')
})

it('both examples of docs/schedules.md add schedules', async () => {
  const output = await run(snippetsOf('docs/schedules.md').find(({ language }) => language === 'sh')!.code)
  expect(output).toMatch(/^next ticks:.*"id":"sync".*"next_at":"/s)
})
