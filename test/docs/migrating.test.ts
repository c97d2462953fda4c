import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { endAtExit } from '../fixtures/processes.ts'
import { type Program, prepareProgram, startProgram } from '../fixtures/program.ts'
import { root } from '../fixtures/root.ts'
import { snippetsOf, writeSnippets } from '../fixtures/snippets.ts'

let server: Program

const env = () => ({ ...process.env, XQUEUE_SERVER: server.url, PYTHONPATH: join(root, 'clients/python') })

/** Runs a program of the guide in the folder of its files; returns its output. */
async function run(command: string, ...args: string[]): Promise<string> {
  return (await promisify(execFile)(command, args, { cwd: server.folder, env: env() })).stdout
}

it('the guide from BullMQ: its code compiles, and works as described', async () => {
  const guide = 'docs/migrating-from-bullmq.md'
  expect(snippetsOf(guide).find(({ language }) => language === 'sh')!.code).toContain('serve --handlers handlers.ts\n')
  server = await prepareProgram({ handlers: 'handlers.ts' })
  for (const name of ['src', 'node_modules', 'package.json']) symlinkSync(join(root, name), join(server.folder, name))
  const names = writeSnippets(guide, server.folder).flatMap(({ name }) => name ?? [])
  expect(names).toEqual(['handlers.ts', 'submit.ts', 'many.ts', 'flow.ts'])
  const settings = { extends: join(root, 'tsconfig.json'), include: ['*.ts'] }
  writeFileSync(join(server.folder, 'tsconfig.json'), JSON.stringify(settings))
  await run(process.execPath, 'node_modules/typescript/bin/tsc', '--noEmit', '--rootDir', '/', '-p', '.')
  await server.start()
  expect(await run(process.execPath, 'submit.ts')).toBe('124\n')
  expect(await run(process.execPath, 'many.ts')).toBe('{ total: 62 }\nDoNotRetry: an invoice cannot be negative\n')
  expect(await run(process.execPath, 'flow.ts')).toBe('{ total: 186 }\n')
})

it('the guide from Celery: its code works as described', async () => {
  server = await startProgram()
  const names = writeSnippets('docs/migrating-from-celery.md', server.folder).flatMap(({ name }) => name ?? [])
  expect(names).toEqual(['worker.py', 'limits.py', 'submit.py', 'flow.py'])
  const stdio = 'inherit' as const
  const worker = endAtExit(spawn('python3', ['worker.py'], { cwd: server.folder, env: env(), stdio }))
  await server.untilHandled('invoice')
  expect(await run('python3', 'limits.py')).toBe("{'invoice': 5}\n")
  expect(await run('python3', 'submit.py')).toBe(
    "success {'total': 124} 2\nsuccess {'total': 62}\nfailed an invoice cannot be negative\n",
  )
  expect(await run('python3', 'flow.py')).toBe("success {'total': 186}\n100 %\n")
  worker.kill('SIGTERM')
  expect(await once(worker, 'exit')).toEqual([0, null])
})
