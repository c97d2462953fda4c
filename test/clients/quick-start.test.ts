import { type StdioOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { endAtExit, removeAtExit } from '../fixtures/processes.ts'
import { startProgram } from '../fixtures/program.ts'
import { root } from '../fixtures/root.ts'
import { writeSnippets } from '../fixtures/snippets.ts'

it.each([
  ['python', "success {'pixels': 90000}\n"],
  ['go', 'success {"pixels":90000}\n'],
])('the quick start of %s works as written', { timeout: 180_000 }, async (language, printed) => {
  const server = await startProgram()
  // A folder beside `clients/`, as the README has it.
  const beside = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-quick-start-')))
  symlinkSync(join(root, 'clients'), join(beside, 'clients'))
  const folder = mkdtempSync(join(beside, 'project-'))
  const env = { ...process.env, XQUEUE_SERVER: server.url, PYTHONPATH: join(root, 'clients/python') }
  /** A shell in a process group of its own, so that what it starts can be ended with it. */
  const shell = (script: string) => {
    const stdio: StdioOptions = ['ignore', 'pipe', 'inherit']
    return endAtExit(spawn('bash', ['-ec', script], { cwd: folder, env, detached: true, stdio }))
  }
  const run = async (script: string) => {
    let text = ''
    const child = shell(script)
    child.stdout!.on('data', (chunk) => {
      text += chunk
    })
    await once(child, 'close')
    return text
  }
  const commands = writeSnippets(`clients/${language}/README.md`, folder)
    .filter((snippet) => snippet.language === 'sh' && !snippet.code.startsWith('pip install'))
    .flatMap(({ code }) => code.trim().split('\n'))
  const submit = commands.pop()!
  const work = commands.pop()!.replace(/ &$/, '')
  await run(commands.join('\n'))
  const worker = shell(work)
  await server.untilHandled('resize')
  expect(await run(submit)).toBe(printed)
  process.kill(-worker.pid!, 'SIGTERM')
  await once(worker, 'close')
  await server.stop()
})
