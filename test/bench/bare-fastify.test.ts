import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { endAtExit } from '../fixtures/processes.ts'

it('the bare Fastify of the benchmark uses the schemas of the server', async () => {
  const peer = join(import.meta.dirname, '../../bench/bare-fastify.ts')
  const child = endAtExit(spawn(process.execPath, [peer], { stdio: ['ignore', 'ignore', 'pipe'] }))
  let log = ''
  const url = await new Promise<string>((resolve, reject) => {
    child.once('exit', () => reject(new Error(log)))
    child.stderr!.on('data', (chunk) => {
      log += chunk
      const address = /listening on (\S+)/.exec(log)
      if (address) resolve(address[1]!)
    })
  })
  const submit = async (task: object) => {
    const headers = { 'Content-Type': 'application/json' }
    return (await fetch(`${url}/api/v1/tasks`, { method: 'POST', headers, body: JSON.stringify(task) })).status
  }
  expect(await submit({ type: 'bench', payload: 1, queue_timeout: '5s' })).toBe(201)
  expect(await submit({ type: 'bench', unheard_of: 1 })).toBe(400)
  child.kill('SIGTERM')
  await once(child, 'exit')
})
