import { execFile } from 'node:child_process'
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { TASK_LIMITS } from '../../src/task/task.ts'
import { type Program, prepareProgram, startProgram } from '../fixtures/program.ts'
import { main, root } from '../fixtures/root.ts'
import { snippetsOf, writeSnippets } from '../fixtures/snippets.ts'

const guide = 'docs/flows.md'
let server: Program

async function run(command: string, ...args: string[]): Promise<string> {
  const path = `${join(server.folder, 'bin')}:${dirname(process.execPath)}:${process.env.PATH}`
  const env = { ...process.env, PATH: path, XQUEUE_SERVER: server.url }
  return (await promisify(execFile)(command, args, { cwd: server.folder, env })).stdout
}

it('the guide to flows: its calls and commands work as described', async () => {
  server = await startProgram({ handlers: join(root, 'handlers/index.ts') })
  const [curl, commands] = snippetsOf(guide).filter(({ language }) => language === 'sh')
  const submitted = await run('bash', '-ec', curl!.code.replaceAll('localhost:8080', new URL(server.url).host))
  expect(submitted).toMatch(/"count":3\}\{"batch":"album-7","total":3,/)
  const [, id] = /"id":"([^"]+)","status":"pending"\}\],/.exec(submitted)!
  expect(await server.until(id!, { status: 'success' })).toMatchObject({ type: 'email', batch: 'album-7' })
  expect(await run('bash', '-ec', `xqueue() { node ${main} "$@"; }\n${commands!.code}`)).toMatch(/^success +2$/m)
})

it('the guide to flows: its code compiles, and works as described', async () => {
  server = await prepareProgram({ handlers: 'handlers.ts' })
  for (const name of ['src', 'node_modules', 'package.json']) symlinkSync(join(root, name), join(server.folder, name))
  expect(writeSnippets(guide, server.folder).flatMap(({ name }) => name ?? [])).toEqual(['handlers.ts', 'submit.ts'])
  const settings = { extends: join(root, 'tsconfig.json'), include: ['*.ts'] }
  writeFileSync(join(server.folder, 'tsconfig.json'), JSON.stringify(settings))
  await run(process.execPath, 'node_modules/typescript/bin/tsc', '--noEmit', '--rootDir', '/', '-p', '.')
  await server.start()
  expect(await run(process.execPath, 'submit.ts')).toBe('3 of 3: sunset-300.png, harbour-300.png\n')
})

it('the guide to flows: its limits match the program', () => {
  const text = readFileSync(join(root, guide), 'utf8')
  for (const [what, most] of [
    ['tasks that one waits for', TASK_LIMITS.afterMax],
    ['tasks that wait for one, at a time', TASK_LIMITS.successorsMax],
    ['tasks of one call', TASK_LIMITS.batchTasksMax],
    ['a name of a batch', TASK_LIMITS.groupCharsMax],
  ]) {
    expect(text).toMatch(new RegExp(`^\\| ${what} +\\| ${most!.toLocaleString('en')}\\b`, 'm'))
  }
})
