import { execFile } from 'node:child_process'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { type Program, prepareProgram } from '../fixtures/program.ts'
import { root } from '../fixtures/root.ts'
import { writeSnippets } from '../fixtures/snippets.ts'

let server: Program

async function run(...args: string[]): Promise<string> {
  const env = { ...process.env, XQUEUE_SERVER: server.url }
  return (await promisify(execFile)(process.execPath, args, { cwd: server.folder, env })).stdout
}

it('the guide to TypeScript: its code compiles, and works as described', async () => {
  server = await prepareProgram({ handlers: 'my-handlers.ts' })
  for (const name of ['src', 'node_modules', 'package.json']) symlinkSync(join(root, name), join(server.folder, name))
  const handlers = writeSnippets('README.md', server.folder)
  expect(handlers.map(({ name }) => name)).toContain('my-handlers.ts')
  const names = writeSnippets('docs/typescript.md', server.folder).flatMap(({ name }) => name ?? [])
  expect(names).toEqual(['report.ts', 'remote-worker.ts', 'embedded.ts', 'express-app.ts', 'fastify-app.ts'])
  const settings = { extends: join(root, 'tsconfig.json'), include: [...names, 'my-handlers.ts'] }
  writeFileSync(join(server.folder, 'tsconfig.json'), JSON.stringify(settings))
  await run('node_modules/typescript/bin/tsc', '--noEmit', '--rootDir', '/', '-p', '.')
  await server.start()
  const [failed, result, missing, listed] = (await run('report.ts')).split('\n')
  expect([failed, result, missing]).toEqual(['task_failed 1', '{ pixels: 90000 }', '404'])
  expect(listed).toMatch(/^[0-9a-f-]{36} 20\S+Z DoNotRetry: width must be at least 1$/)
  expect(await run('embedded.ts')).toBe('{ pixels: 100 }\n')
})
